"""The application layer: hosting a kernel, reading its log, and the shell.

From the lowest layer to the highest:

- `formatting`: data, events, problems and errors as text.
- `log_access`: a log opened for reading, state as of a point, state checkpoints.
- `transparency`: signed tree heads of the log, and proofs for third parties.
- `decisions`, `readmodel`: recorded decisions replayed; the state rebuilt, and as SQL tables.
- `views`: what `get`, `describe`, `diff`, `health`, `metrics` and `top` show.
- `audit`, `histories`: `verify`; `history`, comparisons and statements.
- `host`, `manifests`, `transfer`: `open_kernel` and processes; orders as files; export, import and backup.
- `operations`, `whatif`, `demo`: halts and heartbeats; simulations; the demonstration.
- `testing`: a scripted venue and virtual time, for tests of strategies and adapters.
- `cli`: the commands of `orderctl`.
"""

from kernel.platform.lazy_exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__)

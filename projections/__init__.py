"""State folded from the log, and the stores and tables made from it.

From the lowest layer to the highest:

- `diff`: decides whether an intent's desired and observed sides differ.
- `digest`: writes a state as canonical bytes and finds the first difference between two states.
- `retention`: keeps live intents and the newest terminal ones in memory.
- `folds`: one part of the state each, such as positions, groups or findings.
- `snapshot`: a state without its records, in types that can be stored.
- `state_data`: everything that a state holds; evicts and restores it.
- `state_fold`: applies events to it.
- `state`: `State`, the implementation of `kernel.state.KernelState`.
- `checkpoint`: a state in a file.
- `memory`: the two stores as dictionaries.
- `stores`: the two stores on the log.
- `sql`: the state as SQL tables.
"""

from kernel.platform.lazy_exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__)

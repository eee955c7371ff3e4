"""The order model, the event log, and the loop that keeps the exchange in agreement. From the lowest layer to the highest:

- `clock`, `errors`, `platform`: time and ids; the error tree; services of the host.
- `order_spec`, `models`: orders and symbols; intents, observed orders, positions, findings.
- `groups`: the quantity that a group permits each member. Pure.
- `lease`, `settings`, `stores`: leadership; timeouts and bounds; the two stores of the engine.
- `events`: everything that can be in the log.
- `api`, `actions`: the interface of the kernel; the table of a run's actions.
- `lifecycle`: decides commands and reports, and derives records and statuses from events. Pure.
- `limits`, `plan`, `safety`: pre-trade limits; the next action; pauses, halts and heartbeats.
- `metrics`, `state`, `subscriptions`, `workqueue`: counters; the folded state; subscribers; the queue of keys.
- `log`, `venues`: the event log and its backends; the venue port and its adapters.
- `streams`, `commands`: reads and writes of streams; commands of strategies and operators.
- `reconciler`: decides and executes the runs for one key.
- `runtime`: the tasks of a kernel: reader, session, leader.
- `controller`: the kernel that strategies call.

Imports neither `projections` nor `replay`. The names of the stub are imported when they are first used.
"""

from kernel.platform.lazy_exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__)

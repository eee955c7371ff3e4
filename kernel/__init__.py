"""What an order is, the log, and the loop that makes the exchange agree. Imports neither `projections` nor `replay`.

Vocabulary: `order_spec` `models` `events` `errors`. Pure: `lifecycle` (what an order is in the course of time) `plan` (what
is to be done) `actions` (the table of them) `decide_run` with `run_inputs` and `decision` (what a run does, as a value)
`settlement` (how what is unknown gets settled) `limits` (what may be at stake) `groups` `grouping` (orders that depend on
each other) `silence` (who is not heard any more). Contracts: `api` `stores` `state`, `log.base`, `venues.base`. The
machine: `log` (the event log) `writer` (every way back to it) `commands` `limit_gate` (which commands pass) `waiters` (what
answers them) `gates` (what holds requests back) `operator_commands` `heartbeats` (what the silent want is canceled) `fills`
`workqueue` `reconciler` with `venue_reconciler` `runs` `attempts` `group_attempts` (the one door to the venue) `looks`
(asking it) `session` (hearing it) `external` (others' orders) `drift` (what nothing explains) `readiness` `leadership`
`leader` (what a kernel with a venue has) `lease` `subscriptions` `life` (the runtime) `composition` `controller` `given`
(what comes from outside, checked) `pacing` `budget` (how much the venue takes) `room` (whether a run may begin) `metrics`
(what is counted) `settings` `clock` `version` `private_files`. Adapters: `venues`.
"""

from kernel.platform.lazy_exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__)

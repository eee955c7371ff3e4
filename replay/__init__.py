"""Reading history: everything that begins with the log from position 1.

`recovery`: the composition root, `open_kernel`, which folds the log and starts the kernel on it; `blocking`: the same for
callers without an event loop, `connect`. `folding`: a log for reading, checked and folded, from one position to another;
`checkpoints`: so that none of it begins at the beginning.
`signed_notes` (of the log's tree, their form and keys) `note_keys` (where keys are kept) `notes` (where notes are kept)
`noting` (writes them while a kernel leads) `proofs` (for strangers, by a note).
`past` (`as_of`) `comparing` (`diff`) `histories` with `history_text` and `timeline` (`history`).
`verifying` (`verify`: whether a log is what was written) with `verify_rows` `verify_events` `verify_intents`
`verify_accounts` `verify_notes` `problems` `verify_text`; `holding`: what is put back, against its notes.
`exporting` and `importing`: a log to a file and back, with `new_files` (whole or not at all) `tabulating` and `table_files`
(CSV, Parquet) `backups` (and back again) `statements` (by day) `trades` (as booked).
`deciding` (`replay_decisions`: each recorded decision, made again).
`forking` (`what_if`) with `retelling` (the commands, given again) `paper_fork` (the venue at the fork) `virtual_time`
`outcomes` (side by side) `supposing` (in words).
`rebuilding` with `rebuild_listing`: fold again and compare (`rebuild`), tables made anew; `parting`: where two folds part;
`syncing`: the SQL tables kept current. `threads`: blocking work beside a loop; `progress`: a bar for people.
What the CLI prints and does, as functions that a library user can call too:
`views` (what `get` lists and watches) `resources` (its types) `groups` (as they are shown) `describe` `reading` (`events`)
`event_text` `health` `metrics` (for Prometheus, as a table, as JSON) `manifests` with `manifest_text` (orders as files)
`applying` (`apply`) `differing` and `differences` (`diff`) `explaining` (`explain`) `output` (tables, JSON, ages)
`decimals` (integers out) `ordering` (decimals in) `waiting` (conditions) `clearing` (many at once) `halting` `break_glass`
(past the log) `run` with `config` and `venue_factory` (the processes) `vitals` (whether one lives and acts) `serving` (says
so over HTTP) `logs` (what they log) `failures` (exit codes and their words) `beating` (heartbeats) `top` with `top_screen`
`demo` with `demo_stage` and `demo_checks`. `cli`: the commands themselves.
"""

from kernel.platform.lazy_exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__)

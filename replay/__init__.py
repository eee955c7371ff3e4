"""Reading history: everything that begins with the log from position 1.

`recovery`: the composition root, `open_kernel`, which folds the log and starts the kernel on it; `blocking`: the same for
callers without an event loop, `connect`.
What the CLI prints and does, as functions that a library user can call too:
`views` (what `get` lists and watches) `resources` (its types) `groups` (as they are shown) `describe` `reading` (`events`)
`event_text` `health` `metrics` (for Prometheus, as a table, as JSON) `manifests` with `manifest_text` (orders as files)
`applying` (`apply`) `differing` (`diff`) `explaining` (`explain`) `completing` (a shell's completion) `output` (tables,
JSON, ages, escaping) `decimals` (integers out) `ordering` (decimals in) `waiting` (conditions) `clearing` (many at once)
`halting` `break_glass` (past the log) `attach` (a kernel beside the leader) `running` (the processes) `vitals` (whether one
lives and acts) `serving` (says so over HTTP) `logs` (what they tell) `failures` (exit codes and their words) `beating`
(heartbeats) `top` with `top_screen` `demo` with `demo_stage` `demo_checks` `demo_pages`.
"""

from replay.blocking import connect
from replay.recovery import open_kernel

__all__ = ["connect", "open_kernel"]

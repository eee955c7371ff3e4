"""Reading history: everything that begins with the log from position 1.

`recovery`: the composition root, `open_kernel`, which folds the log and starts the kernel on it; `blocking`: the same for
callers without an event loop, `connect`. `folding`: a log for reading, checked and folded, from one position to another.
`exporting` and `importing`: a log to a file and back, with `row_files` (the JSONL form) `new_files` (whole or not at all)
`tabulating` and `table_files` (CSV, Parquet) `trades` (what was booked). `deciding` (`replay_decisions`) with `dry_engine`
(the reconciler without a venue) and `passing_over` (what was left undone). `forking` (`what_if`) with `retelling` (the
commands, given again) `paper_fork` (the venue at the fork) `virtual_time` `outcomes` (side by side) `supposing` (in words).
What the CLI prints and does, as functions that a library user can call too:
`views` (what `get` lists and watches) `resources` (its types) `groups` (as they are shown) `describe` `reading` (`events`)
`event_text` `health` `metrics` (for Prometheus, as a table, as JSON) `manifests` with `manifest_text` (orders as files)
`applying` (`apply`) `differing` (`diff`) `explaining` (`explain`) `completing` (a shell's completion) `output` (tables,
JSON, ages, escaping) `decimals` (integers out) `ordering` (decimals in) `waiting` (conditions) `clearing` (many at once)
`halting` `break_glass` (past the log) `command_line` (what the verbs share) `verbs` (those that read history) `attach` (a
kernel beside the leader) `running` (the processes) `vitals` (whether one lives and acts) `serving` (says so over HTTP)
`logs` (what they tell) `failures` (exit codes and their words) `beating` (heartbeats) `top` with `top_screen` `demo` with
`demo_stage` `demo_checks` `demo_pages`.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from replay.blocking import connect
    from replay.deciding import replay_decisions
    from replay.exporting import export_log
    from replay.forking import what_if
    from replay.importing import import_log
    from replay.recovery import open_kernel

__all__ = ["connect", "export_log", "import_log", "open_kernel", "replay_decisions", "what_if"]

HOMES = {
    "connect": "replay.blocking",
    "export_log": "replay.exporting",
    "import_log": "replay.importing",
    "open_kernel": "replay.recovery",
    "replay_decisions": "replay.deciding",
    "what_if": "replay.forking",
}
"""Where the public names are. Each is imported when it is first asked for: the help of `orderctl` needs none of them."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(HOMES[name]), name)

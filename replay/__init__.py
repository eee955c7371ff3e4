"""Reading history: everything that begins with the log from position 1.

`recovery`: the composition root, `open_kernel`, which folds the log and starts the kernel on it; `blocking`: the same for
callers without an event loop, `connect`. `folding`: a log for reading, checked and folded, from one position to another.
`rebuilding` with `rebuild_listing`: fold again and compare (`rebuild`), tables made anew; `parting`: where two folds
part; `syncing`: the SQL tables kept current; `progress`: a bar for people.
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
    from replay.parting import first_difference
    from replay.rebuilding import rebuild, rebuild_tables, roll_back
    from replay.recovery import open_kernel
    from replay.syncing import sync_tables

__all__ = ["connect", "first_difference", "open_kernel", "rebuild", "rebuild_tables", "roll_back", "sync_tables"]

HOMES = {
    "connect": "replay.blocking",
    "first_difference": "replay.parting",
    "open_kernel": "replay.recovery",
    "rebuild": "replay.rebuilding",
    "rebuild_tables": "replay.rebuilding",
    "roll_back": "replay.rebuilding",
    "sync_tables": "replay.syncing",
}
"""Where the public names are. Each is imported when it is first asked for: the help of `orderctl` needs none of them."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(HOMES[name]), name)

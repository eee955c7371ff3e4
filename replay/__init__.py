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
`applying` (`apply`) `differing` (`diff`) `explaining` (`explain`) `completing` (a shell's completion) `output` (tables,
JSON, ages, escaping) `decimals` (integers out) `ordering` (decimals in) `waiting` (conditions) `clearing` (many at once)
`halting` `break_glass` (past the log) `command_line` (what the verbs share) `verbs` (those that read history) `attach` (a
kernel beside the leader) `running` (the processes) `vitals` (whether one lives and acts) `gauges` (read when metrics are
collected) `serving` with `http_server` (says so over HTTP) `logs` (what they tell) `failures` (exit codes and their words)
`beating` (heartbeats) `top` with `top_screen` `demo` with `demo_stage` `demo_checks` `demo_pages`.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from replay.backups import backup_log, restore_log
    from replay.blocking import connect
    from replay.comparing import diff
    from replay.deciding import replay_decisions
    from replay.exporting import export_log
    from replay.forking import what_if
    from replay.histories import history
    from replay.importing import import_log
    from replay.parting import first_difference
    from replay.past import as_of
    from replay.problems import Problem, ProblemKind, VerifyReport
    from replay.proofs import prove, prove_consistency
    from replay.rebuilding import rebuild, rebuild_tables, roll_back
    from replay.recovery import open_kernel
    from replay.statements import statement
    from replay.syncing import sync_tables
    from replay.verifying import verify

__all__ = [
    "Problem",
    "ProblemKind",
    "VerifyReport",
    "as_of",
    "backup_log",
    "connect",
    "diff",
    "export_log",
    "first_difference",
    "history",
    "import_log",
    "open_kernel",
    "prove",
    "prove_consistency",
    "rebuild",
    "rebuild_tables",
    "replay_decisions",
    "restore_log",
    "roll_back",
    "statement",
    "sync_tables",
    "verify",
    "what_if",
]

HOMES = {
    "Problem": "replay.problems",
    "ProblemKind": "replay.problems",
    "VerifyReport": "replay.problems",
    "as_of": "replay.past",
    "backup_log": "replay.backups",
    "connect": "replay.blocking",
    "diff": "replay.comparing",
    "export_log": "replay.exporting",
    "first_difference": "replay.parting",
    "history": "replay.histories",
    "import_log": "replay.importing",
    "open_kernel": "replay.recovery",
    "prove": "replay.proofs",
    "prove_consistency": "replay.proofs",
    "rebuild": "replay.rebuilding",
    "rebuild_tables": "replay.rebuilding",
    "replay_decisions": "replay.deciding",
    "restore_log": "replay.backups",
    "roll_back": "replay.rebuilding",
    "statement": "replay.statements",
    "sync_tables": "replay.syncing",
    "verify": "replay.verifying",
    "what_if": "replay.forking",
}
"""Where the public names are. Each is imported when it is first asked for: the help of `orderctl` needs none of them."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(HOMES[name]), name)

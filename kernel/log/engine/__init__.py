"""engine

- `batch`: What one transaction records: decides each command against the locked head, and lays out the rows.
- `group_commit`: The one writer thread of a log: drains what is waiting into one transaction after another.
- `jsonl_file`: The JSONL form of a log: one line that says what it is, then a line for each row with all that is
  stored.
- `recorded_log`: The part of a log that is the same on every backend: reading, tailing, and checking what was read.
- `recorder`: What every recorder of ours can do, and the event-sourcing library's recorder interface on top of it.
- `records`: Between events and rows: an append made ready for the writer, and a row made an event again.
- `tail_feed`: Wakes the tails of this process: with a committed batch in hand where possible, with a nudge to read
  otherwise.
- `threaded_log`: A log whose database is written by a thread of its own: what SQLite and PostgreSQL have in common.
- `version_cache`: What a writer remembers between commits, so that most commits need no look-up.
"""

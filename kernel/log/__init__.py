"""The append-only, gapless, hashed event log of one exchange account.

From the lowest layer to the highest:

- `merkle`: Merkle tree over the log's leaves (RFC 6962): roots and proofs
- `base`: the interface `EventLog` and its records
- `hashing`: the hash format, which cannot change
- `engine`: what the backends share: batching, reading, tailing, the JSONL form
- `backends`: memory, SQLite and PostgreSQL, each with its lease
- `factory`: opens a log by its URL

| promise | mechanism | test (in tests/contract/log/test_log.py unless a file is named) |
|---|---|---|
| durability | an append returns after the synced commit | `test_an_acknowledged_append_is_there_after_a_reopen` |
|  | WAL with `synchronous=FULL`, `synchronous_commit=on` | test_processes.py: `test_a_killed_writer_…` |
| gapless order | positions from a head row locked by the writer | `test_positions_have_no_gaps` |
|  | readers check that positions follow each other | `test_two_log_objects_write_without_gaps` |
| optimistic concurrency | expected version per stream | `test_a_wrong_expected_version_is_refused` |
|  | decided per command, before any insert | `test_a_conflict_refuses_that_command_alone` |
| idempotency | unique command ids, looked up under the lock | `test_a_command_id_appended_twice_is_recorded_once` |
| bounded queue | one thread commits batches | `test_a_full_queue_refuses_commands_and_takes_facts` |
| known outcome | ids are looked up after a lost connection | test_postgres_outcome.py |
| tamper evidence | a leaf over every column, a chain over leaves | `test_every_changed_column_is_found`, test_hashing.py |
| append-only | triggers refuse update, delete and truncate | `test_the_database_refuses_changes` |
| fencing | the head row has the leader's epoch | `test_an_older_epoch_is_fenced` |
| monotonic time | the later of the head's time and the clock's | `test_time_never_goes_back` |
| live tail | published in process, `data_version` or `LISTEN` | `test_a_tail_sees_another_log_objects_commits` |
| bounded reads | keyset pages | `test_read_comes_in_pages` |
| completeness | a partly archived log is refused | test_layouts.py: `test_an_archived_log_is_refused` |
"""

from kernel.log.base import Append, Appended, EventLog, Head, LogSettings, StoredRow, StreamHead, Write
from kernel.log.factory import open_log

__all__ = ["Append", "Appended", "EventLog", "Head", "LogSettings", "StoredRow", "StreamHead", "Write", "open_log"]

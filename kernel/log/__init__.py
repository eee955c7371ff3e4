"""The log of one exchange account: the only truth, append-only, gapless, hashed.

`open_log` opens one; everything else goes through `EventLog`. Modules: `base` the contract, `opening` URLs and refusals,
`records` events to rows and back, `hashing` the format that cannot change, `batch` the decision inside the transaction,
`recorder` what each backend's recorder does (also for the event-sourcing library), `memory` `sqlite` `postgres` the
backends, `writer` the thread, `threaded` and `stored` what the backends share, `feed` the wake-up of tails.

| promise | how | held by (tests/contract/test_log.py unless said) |
|---|---|---|
| durable | an append returns after the commit: WAL with `synchronous=FULL`, `synchronous_commit=on` | `test_an_acknowledged_append_is_there_after_a_reopen`, `test_a_killed_writer_loses_nothing_acknowledged` |
| gapless total order | positions from a head row locked in the transaction; readers assert `first == last + 1` | `test_positions_have_no_gaps`, `test_two_log_objects_write_without_gaps` |
| optimistic concurrency | expected version per stream, decided per command before anything is inserted | `test_a_wrong_expected_version_is_refused`, `test_a_conflict_refuses_that_command_alone` |
| idempotent | unique command ids, looked up under the lock | `test_a_command_id_appended_twice_is_recorded_once` |
| group commit | one writer thread drains a bounded queue into one transaction | `test_a_full_queue_refuses_commands_and_takes_facts` |
| outcome known | after a lost connection the command ids are looked up under the head's lock | test_postgres_outcome.py |
| tamper-evident | a leaf over every column, a chain over the leaves, checked on each read by a tail | `test_every_changed_column_is_found`, test_hashing.py |
| append-only | triggers refuse update, delete and truncate | `test_the_database_refuses_changes` |
| fenced | the head row holds the epoch | `test_an_older_epoch_is_fenced` |
| time | the later of the head's instant and the writer's clock | `test_time_never_goes_back` |
| tail | handed over in process; `data_version` or `LISTEN` for other processes | `test_a_tail_sees_another_log_objects_commits` |
| read | keyset pages | `test_read_comes_in_pages` |
"""

from kernel.log.base import Append, Appended, EventLog, Head, LogSettings, StoredRow, Write
from kernel.log.opening import open_log

__all__ = ["Append", "Appended", "EventLog", "Head", "LogSettings", "StoredRow", "Write", "open_log"]

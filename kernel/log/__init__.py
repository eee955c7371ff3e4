"""The log of one exchange account: the only truth, append-only, gapless, hashed.

`open_log` opens one; everything else goes through `EventLog`. Modules: `base` the contract, `opening` URLs and refusals,
`records` events to rows and back, `hashing` the format that cannot change, `tree` the Merkle tree over its leaves, `batch`
the decision inside the transaction, `recorder` what each backend's recorder does (also for the event-sourcing library),
`memory` `sqlite` `postgres` the backends, each with its `…_lease`, `writer` the thread, `threaded` and `stored` what the
backends share, `feed` the wake-up of tails, `row_files` a log as a file.

Promise, how it is kept, and the test that fails when it is broken (in tests/contract/test_log.py unless said):

| promise | how | test |
|---|---|---|
| durable | an append returns after the commit, which is synced | `test_an_acknowledged_append_is_there_after_a_reopen` |
|  | WAL with `synchronous=FULL`, `synchronous_commit=on` | test_log_processes.py: `test_a_killed_writer_…` |
| gapless order | positions from a head row locked by the writer | `test_positions_have_no_gaps` |
|  | readers assert `first == last + 1` | `test_two_log_objects_write_without_gaps` |
| optimistic concurrency | expected version per stream | `test_a_wrong_expected_version_is_refused` |
|  | decided per command, before anything is inserted | `test_a_conflict_refuses_that_command_alone` |
| idempotent | unique command ids, looked up under the lock | `test_a_command_id_appended_twice_is_recorded_once` |
| group commit | one thread drains a bounded queue | `test_a_full_queue_refuses_commands_and_takes_facts` |
| outcome known | ids are looked up after a lost connection | test_postgres_outcome.py |
| tamper-evident | a leaf over every column, a chain over leaves | `test_every_changed_column_is_found`, test_hashing.py |
| append-only | triggers refuse update, delete and truncate | `test_the_database_refuses_changes` |
| fenced | the head row holds the leader's epoch | `test_an_older_epoch_is_fenced` |
| time | the later of the head's instant and the clock's | `test_time_never_goes_back` |
| tail | handed over in process, `data_version` or `LISTEN` | `test_a_tail_sees_another_log_objects_commits` |
| read | keyset pages | `test_read_comes_in_pages` |
| whole | a log of which a part is archived is not opened | test_log_layouts.py: `test_an_archived_log_is_refused` |
"""

from kernel.log.base import Append, Appended, EventLog, Head, LogSettings, StoredRow, StreamHead, Write
from kernel.log.factory import open_log

__all__ = ["Append", "Appended", "EventLog", "Head", "LogSettings", "StoredRow", "StreamHead", "Write", "open_log"]

"""The parts that the backends share, from the lowest layer to the highest:

- `records`: converts appends to commands and rows to events
- `batch`: decides the commands of one transaction
- `version_cache`: caches stream versions between a writer's commits
- `recorder`: the blocking interface to a log's storage
- `tail_feed`: wakes the tails of this process
- `recorded_log`: reads and tails
- `group_commit`: the writer thread
- `threaded_log`: a log with a writer thread and reader threads
- `jsonl_file`: the JSONL form of a log
"""

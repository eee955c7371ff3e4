"""Where logs and their leases are stored, from the lowest layer to the highest:

- `file_watch`: reports writes to a file by any process
- `sqlite_lease`: a lease by a lock on a file
- `postgres_binary_arrays`: packs array parameters
- `postgres_sql`: tables and statements
- `postgres_datastore`: connections and errors
- `postgres_lease`: a lease by an advisory lock
- `postgres_notifications`: listens for other processes' commits
- `memory` (with its lease), `sqlite`, `postgres`: the logs
- `library`, `postgres_library`: the same for users of the `eventsourcing` library
"""

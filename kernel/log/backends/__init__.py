"""backends

- `memory`: A log in memory, for tests and for runs on virtual time: same bytes, same hashes, same promises but
  durability.
- `memory_lease`: The lease of a log in memory, for tests and for runs on virtual time.
- `postgres`: A log in a PostgreSQL schema: where several hosts share a log.
- `postgres_binary_arrays`: Arrays in PostgreSQL's binary format, each packed in one go: an insert has twelve of them.
- `postgres_datastore`: Connections to the PostgreSQL schema of a log or of tables, and psycopg's errors as ours.
- `postgres_lease`: The lease of a log in PostgreSQL: a session's advisory lock, on a connection of its own that is
  checked again and again.
- `postgres_notifications`: Listens for commits of other processes on a PostgreSQL log, and nudges the tails.
- `postgres_sql`: The SQL of a log on PostgreSQL: its tables, and every statement that is run on them.
- `sqlite`: A log in a SQLite file: the embedded default.
- `sqlite_lease`: The lease of a log in a SQLite file: a lock of the operating system on a file beside it.
"""

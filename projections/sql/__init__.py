"""The state as SQL tables, for other processes and for people who query in SQL.

From the lowest layer to the highest:

- `schema`: the tables and their columns; the changes of a batch. Pure.
- `store`: `TableStore`, versions of the tables in one database, written and compared.
- `sqlite`: the tables in a SQLite file beside the log's.
- `postgres`: the tables in a PostgreSQL schema beside the log's.
- `rows`: the rows that a batch of events changes.
"""

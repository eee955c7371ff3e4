"""sql

- `postgres`: The tables in a PostgreSQL schema beside the log's: `read_<exchange id>`.
- `rows`: Which rows a batch of events changes, and what they are then.
- `schema`: The read models as tables: which there are, and what a row of each holds. Pure.
- `sqlite`: The tables in a SQLite file of their own, beside the log's: whoever writes them holds no writer of the log back.
- `store`: The read models as tables in a database: for other processes, and for people who ask in SQL.
"""

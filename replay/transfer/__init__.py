"""transfer

- `backup`: A copy of a log to fall back on, and the log put back from it.
- `exporter`: Writes a log to a file: as JSONL, byte-exact, to be imported elsewhere; or as CSV and Parquet tables
  for people.
- `importer`: Reads a log from a file into an empty place: SQLite or PostgreSQL, whichever it came from, with the
  same bytes.
- `table_writers`: Writes a table to a file as it comes: CSV, or Parquet with pyarrow (the extra `parquet`, imported
  when it is asked for).
- `tables`: The log as tables for spreadsheets and data frames: events, orders, fills; columns made for people.
"""

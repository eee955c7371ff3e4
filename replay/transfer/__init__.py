"""Copies of a log: backups, exports, imports and tables.

- `tables`: the columns and rows of table exports.
- `table_writers`: write a table as CSV or Parquet.
- `exporter`: write a log to a file.
- `importer`: read a log from an export.
- `backup`: back up and restore a log.
"""

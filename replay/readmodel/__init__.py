"""The SQL tables of a log: kept current, rebuilt and compared.

From the lowest layer to the highest:

- `sync`: brings the tables to the log's head, once or continuously.
- `rebuild`: folds the log again, compares the result with what is stored, and replaces the tables.
- `report`: what `orderctl rebuild` and `orderctl tables` print.
"""

"""readmodel

- `rebuild`: Folding a log again from its first event, and comparing what that comes to with what is there.
- `report`: What `orderctl rebuild` and `orderctl tables` do and print. Called by the CLI.
- `sync`: Keeping the SQL tables at the log's head: once, or for as long as events come.
"""

"""How data, events, problems and errors become text. Reads no log and no clock.

From the lowest layer to the highest:

- `decimals`: scaled integers as decimals, for tables and JSON.
- `output`: tables, JSON, YAML, names, ages; control characters escaped.
- `errors`: errors as exit codes and lines.
- `events`: stored events as objects and sentences.
- `order_input`: decimals of the command line as orders.
- `problems`: the problems that `verify` reports.
- `progress_bar`: a progress bar on a terminal.
"""

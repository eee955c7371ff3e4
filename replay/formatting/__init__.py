"""formatting

- `decimals`: Integers at their scales as decimals for people and for JSON: the way out, at the edge where they are
  printed.
- `errors`: How failures are told to people: exit codes and lines, never a traceback unless it is asked for.
- `events`: Stored events for people and for programs: one object, one line, one sentence each.
- `order_input`: An order as people write it made into one as the kernel takes it: decimals in, integers at the
  symbol's scale out.
- `output`: How things are printed: tables, JSON, YAML, names; ages, durations; and text made harmless for a terminal.
- `problems`: What is wrong with a log: problems, each with its position, its kind and a sentence; and the report
  that they make up.
- `progress_bar`: How far long work is, for people: a bar on stderr where that is a terminal, and nothing anywhere else.
"""

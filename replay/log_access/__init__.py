"""log_access

- `as_of`: What was known at a point of the log: the state as of a position or an instant, to be asked like a live
  kernel.
- `atomic_files`: A file that appears whole or not at all: filled beside its place, synced, then put there in one step.
- `bookings`: What the log's events did to the trades that count: booked, taken back, corrected; each with whose it is.
- `checkpoints`: Where checkpoints are, which of them can be used, and who writes them: so that no start folds the
  log from its beginning.
- `log_reader`: A log for reading: opened, checked row by row, and folded from one position to another.
- `threads`: Blocking work in a thread, for somebody on a loop: what it is told, what it tells, and how it ends.
"""

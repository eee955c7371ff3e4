"""operations

- `bulk_cancel`: Taking down many orders at once: which ones, how they look, and their cancels as they are recorded.
- `emergency_cancel`: Taking orders down at the venue itself, past the log: for when the log can't be written and
  orders must go.
- `halt`: Halting from a shell: the halt, its cancels, and whether the orders are gone.
- `heartbeat_loop`: A strategy's heartbeat as a process of its own: once, or again and again until a signal ends it
  in order.
"""

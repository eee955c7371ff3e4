"""Reads and writes of the kernel's event streams, lowest layer first.

- `fills`: reads fills from the log.
- `rehydration`: reads evicted streams back into the state.
- `event_writer`: appends reports of the venue and verdicts of the leader.
"""

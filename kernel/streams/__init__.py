"""streams

- `event_writer`: How the machine writes: facts that the venue reported, and verdicts of the leader. Every way back
  goes through here.
- `fills`: Trades read back from the log: decoded page by page, each fill key once.
- `rehydration`: Reading back what was let go: memory holds what is live and the newest of what is over, the log
  holds everything.
"""

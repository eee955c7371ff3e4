"""Operations on many orders, and on a log that is not available.

- `bulk_cancel`: cancel many orders.
- `emergency_cancel`: cancel orders at the venue, without the log.
- `halt`: halt trading and wait until the orders are gone.
- `heartbeat_loop`: send a strategy's heartbeats.
"""

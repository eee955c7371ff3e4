"""The paper exchange: a simulated exchange account, in process or as a process of its own.

- `matching`: the deterministic core: books, matching rules, journal.
- `tape`: reads files of a market's trades and plays them in time.
- `faults`: injected faults, scripted or seeded.
- `exchange`: the core in time: sessions, latency, faults and the tape.
- `protocol`: the messages between client and server as JSON lines.
- `admin`: administrative operations for operators and tests.
- `transport`: the connection to an exchange in the same process.
- `client`: the connection to an exchange in another process.
- `server`: the exchange as a process of its own.
- `venue`: `PaperVenue`, the `Venue` adapter.
"""

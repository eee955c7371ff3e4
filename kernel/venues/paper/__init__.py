"""paper

- `admin`: What an operator or a test can do to a paper exchange: one table of acts, the same in-process and over
  the wire.
- `client`: The way to a paper exchange in another process: the client's end of the socket.
- `exchange`: The paper exchange as its clients meet it: the engine in time, with sessions, latency, faults and a
  playing tape.
- `faults`: Faults on demand: what goes wrong between a client and the paper exchange, by script or by chance under
  a seed.
- `protocol`: The lines that a paper exchange and its client exchange: JSON objects, one a line, UTF-8.
- `server`: The paper exchange as a process of its own: JSON lines over a socket.
- `tape`: Tapes: files of a market's trades, read exactly and with bounded memory, and played in time.
- `tape_generator`: Makes the tape that comes with the project: a seeded random walk, no market's data.
- `transport`: How a `PaperVenue` reaches its exchange, and the way within one process.
- `venue`: `PaperVenue`: the port to the paper exchange, in this process or in another.
"""

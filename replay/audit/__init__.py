"""audit

- `accounts`: The books kept once more, in plain integers: what fills, corrections and busts in the log come to.
- `events`: The checks of a log's events: each is read, held against the events before it, and against the state
  that is folded.
- `intents`: The checks of one intent's stream: what may follow what, what was sent and whether it was to be, what
  is settled by which
- `report`: What a verification found, as text for people and for programs.
- `rows`: The checks of a log's rows as they are stored: positions, hashes, versions, commands, instants. No event
  is decoded.
- `verify`: `verify`: whether a log is what was written, and whether what it tells can have been so.
"""

"""Reading a log: opening, checking and folding it, and the files beside it.

From the lowest layer to the highest:

- `atomic_files`: writes a file that appears complete or not at all.
- `threads`: runs blocking work in a thread for a caller on an event loop.
- `log_reader`: opens a log, checks its rows and folds it; finds positions and instants.
- `checkpoints`: finds and writes checkpoints.
- `bookings`: what each event booked, with its intent's owner.
- `state_source`: the states that views show.
- `as_of`: the state at a position or an instant.
- `stream_state`: the state of single intents and groups.
- `command_state`: the state that a command to one intent needs.
"""

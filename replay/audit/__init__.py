"""Verification of a log against its hashes, its own rules and its signed tree heads.

- `accounts`: recompute positions and fees from fills, independently of the fold.
- `rows`: check stored rows: positions, hashes, versions, commands, timestamps.
- `intents`: check the events of one intent.
- `events`: check the events of a log against each other and against the folded state.
- `report`: format a verification report.
- `verify`: run all checks on one log.
"""

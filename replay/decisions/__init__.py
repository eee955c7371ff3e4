"""Recorded decisions, made again by the installed code.

From the lowest layer to the highest:

- `recorded_leader`: the settings and capabilities that a leader recorded.
- `decision_replay`: `replay_decisions`, which compares every attempt and verdict with today's decision.
"""

"""decisions

- `decision_replay`: `replay_decisions`: whether today's code decides every recorded attempt and verdict as the
  kernel did that wrote the log.
"""

"""Retention of intents in memory: live ones and the newest terminal ones.

- `policy`: selects the terminal intents that stay in memory.
"""

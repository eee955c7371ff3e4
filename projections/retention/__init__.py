"""Retention of intents in memory: live ones and the newest terminal ones, most of them packed.

From the lowest layer to the highest:

- `codec`: packs values into bytes and back, by their annotations.
- `policy`: selects the terminal intents that stay in memory.
- `record_cache`: holds the records, the newest unpacked.
"""

"""retention

- `codec`: Values as bytes and back: dataclasses, named tuples, models and enums, as their annotations have them.
- `policy`: Intents about which nothing is left to watch: which of them were heard of last, and are kept.
- `record_cache`: The records of all intents that a state holds: the newest as they are, all others packed.
"""

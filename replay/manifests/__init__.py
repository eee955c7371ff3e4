"""manifests

- `apply`: What `apply` does: manifests held against the intents in the log, then made so. Declarative, and safe to repeat.
- `diff`: What `diff -f` prints: manifests against intents, as a unified diff for people or as objects for programs.
- `parser`: YAML and JSON as plain values whose places are known: strict, bounded, and without a guess.
- `schema`: Manifests: orders and groups as files, read strictly and checked as far as that goes without a market.
"""

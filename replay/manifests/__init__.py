"""Orders and groups as files.

From the lowest layer to the highest:

- `parser`: YAML and JSON as plain values with their places; strict and bounded.
- `schema`: the form of manifests.
- `apply`: the steps that make the log agree with manifests.
- `diff`: what `apply` would change.
"""

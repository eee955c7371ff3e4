"""The commands of `orderctl`, a module for each group of them. `cli.py` mounts them lazily, by name.

`group` (the root: lazy commands in sections, errors as exit codes) is all that `--help` loads. `base` (options, printing)
`client` (runs a command on a kernel, or on the state as of a point) `completion` (of a shell). Commands: `trade`
`manifests` `get` `inspect` `operate` `rebuild` `history` `verify` `proofs` `transfer` `statement` `whatif`. A command
parses, calls a function that library users can call too, and prints.
"""

"""platform

- `lazy_exports`: Lazy exports of a package: each name is imported from the module that defines it when it is first
  used.
- `private_files`: Files that no other user of the host can read or write: logs, checkpoints, locks, journals, and
  what is exported.
- `version`: The version of this software: its release, what a fold gives, and the build that runs.
"""

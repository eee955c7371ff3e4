"""Services of the Python platform and the host.

- `lazy_exports`: lazy exports of a package.
- `version`: release, fold version and build hash.
- `private_files`: files that no other user of the host can read or write.
"""

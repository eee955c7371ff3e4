"""Signed tree heads (C2SP tlog-checkpoint) of a log, and proofs by them.

- `signed_note`: the text formats: signed notes, keys, tree heads.
- `keys`: key files.
- `tree_head_store`: read the tree heads in a directory.
- `tree_head_signer`: sign tree heads while a kernel leads.
- `tree_head_check`: compare a log with its tree heads.
- `import_guard`: compare a log with its tree heads before an import or a restore takes effect.
- `proofs`: inclusion and consistency proofs.
"""

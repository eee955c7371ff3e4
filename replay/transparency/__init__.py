"""transparency

- `import_guard`: A log that is put back, held against the signed notes of it: is it the one that was signed, and
  how much is lacking?
- `keys`: The keys of signed notes, where they are kept: signer keys in files that nobody else can read, verifier
  keys in lists.
- `proof_files`: `orderctl prove` as functions: what is asked for, the proof as text, and the file that it goes to.
- `proofs`: Proofs for strangers: that an event is in a log whose note is signed, and that a log only grew from one
  note to another.
- `signed_note`: Signed notes of a log's tree: their text, signatures and keys, as C2SP's signed-note and tlog-
  checkpoint have it.
- `tree_head_check`: The signed notes of a log against its events: the tree's root and the chain hash at the size of
  each.
- `tree_head_signer`: What signs notes of a log while a kernel leads it: every so many events or seconds, to a
  directory outside the database.
- `tree_head_store`: The signed notes of a log as they are kept outside its database: a directory with a file for
  each, named by its size.
"""

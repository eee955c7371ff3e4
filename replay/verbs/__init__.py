"""The verbs of `orderctl` that read history, a module for each kind of question. `cli` adds them to its group."""

import click

from replay.verbs import accounts, moving, proving, verifying
from replay.verbs.looking_back import history
from replay.verbs.rebuilding import rebuild, tables
from replay.verbs.trying import decisions, what_if

VERBS: tuple[click.Command, ...] = (
    rebuild,
    tables,
    history,
    verifying.verify,
    proving.prove,
    proving.keys,
    *moving.VERBS,
    *accounts.VERBS,
    decisions,
    what_if,
)
"""All of them."""

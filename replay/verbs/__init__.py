"""The verbs of `orderctl` that read history, a module for each kind of question. `cli` adds them to its group."""

import click

from replay.verbs import accounts, moving, proving, verifying
from replay.verbs.looking_back import history

VERBS: tuple[click.Command, ...] = (
    history,
    verifying.verify,
    proving.prove,
    proving.keys,
    *moving.VERBS,
    *accounts.VERBS,
)
"""All of them."""

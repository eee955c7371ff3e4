"""The verbs of `orderctl` that read history, a module for each kind of question. `cli` adds them to its group."""

import click

from replay.verbs import accounts, moving

VERBS: tuple[click.Command, ...] = (*moving.VERBS, *accounts.VERBS)
"""All of them."""

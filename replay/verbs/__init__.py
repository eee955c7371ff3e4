"""The verbs of `orderctl` that read history, a module for each kind of question. `cli` adds them to its group."""

import click

from replay.verbs.trying import decisions, what_if

VERBS: tuple[click.Command, ...] = (decisions, what_if)
"""All of them."""

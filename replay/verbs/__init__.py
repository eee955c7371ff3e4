"""The verbs of `orderctl` that read history, a module for each kind of question. `cli` adds them to its group."""

import click

from replay.verbs.rebuilding import rebuild, tables

VERBS: tuple[click.Command, ...] = (rebuild, tables)
"""All of them."""

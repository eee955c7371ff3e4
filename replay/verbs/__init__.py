"""The verbs of `orderctl` that read history, a module for each kind of question. `cli` adds them to its group."""

import click

VERBS: tuple[click.Command, ...] = ()
"""All of them."""

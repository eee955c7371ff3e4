"""The verbs of `orderctl` that read history, a module for each kind of question. `cli` adds them to its group."""

import click

from replay.verbs import proving

VERBS: tuple[click.Command, ...] = (proving.prove, proving.keys)
"""All of them."""

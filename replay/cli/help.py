"""`help`: topics for users and operators, Markdown files in the folder `topics` beside this module.

The entries of the runbook come from the tables that also hold the remedies of conditions, findings and problems.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.resources import files

import click
from rich.console import Console
from rich.markdown import Markdown

from kernel.errors import Remedy
from kernel.lifecycle.remediation import REMEDIATION
from kernel.safety.readiness import REMEDIES as CONDITIONS
from replay.cli.base import echo
from replay.formatting.output import aligned
from replay.formatting.problems import REMEDIES as PROBLEMS

FOLDER = files("replay.cli") / "topics"
TOPICS = (
    "api", "manifests", "groups", "limits", "rate-limits", "heartbeats", "external-orders", "log", "start-up", "audit",
    "transfer", "sql", "decisions", "metrics", "runbook", "testing", "conformance",
)  # fmt: skip
"""In the order of the list. The first line of each file is `# NAME: TITLE`."""
PROGRAM = "check-proof"
PROGRAM_TITLE = "a program that checks proofs, and uses nothing of this project"
RUNBOOK: dict[str, Mapping[str, Remedy]] = {
    "@@CONDITIONS@@": CONDITIONS,
    "@@FINDINGS@@": {str(kind): remedy for kind, remedy in REMEDIATION.items()},
    "@@PROBLEMS@@": {str(kind): remedy for kind, remedy in PROBLEMS.items()},
}
"""Marks in the topic `runbook`, and the entries that replace them."""


@click.command("help")
@click.argument("topic", required=False, type=click.Choice([*TOPICS, PROGRAM]), metavar="[TOPIC]")
def help_(topic: str | None) -> None:
    """Show a help topic, or list the topics.

    Topics are Markdown: formatted on a terminal, plain text otherwise. For a command, see `orderctl COMMAND --help`.

    \b
    Example:
      orderctl help
      orderctl help runbook
      orderctl help check-proof > check_proof.py
    """
    if topic is None:
        echo(aligned([*((name, title_of(name)) for name in TOPICS), (PROGRAM, PROGRAM_TITLE)]))
    elif topic == PROGRAM or not sys.stdout.isatty():
        echo(topic_text(topic))
    else:
        Console().print(Markdown(topic_text(topic)))


def title_of(topic: str) -> str:
    """Return a topic's title without its name."""
    return topic_text(topic).partition("\n")[0].partition(": ")[2]


def topic_text(topic: str) -> str:
    """A topic as Markdown, or the program that checks proofs."""
    name = "check_proof.py" if topic == PROGRAM else f"{topic}.md"
    text = (FOLDER / name).read_text(encoding="utf-8")
    if topic == "runbook":
        for mark, remedies in RUNBOOK.items():
            text = text.replace(mark, entries(remedies))
    return text


def entries(remedies: Mapping[str, Remedy]) -> str:
    """Entries of the runbook as Markdown."""
    names = {"about": "ID", "finding_id": "FINDING"}
    return "\n".join(
        f"- `{name}`: {remedy.meaning}\n"
        f"  - Look: {remedy.look.format(**names)}\n"
        f"  - Do: {remedy.do.format(**names)}\n"
        f"  - Do not: {remedy.avoid}"
        for name, remedy in remedies.items()
    )

"""What the documents show: README.md, the help topics, the READMEs of the tests, and the examples in `--help`.

Used by the tests that run it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from cli import cli
from replay.cli.help import TOPICS, topic_text
from tests.cli.world import COMMANDS, PROJECT

README = (PROJECT / "README.md").read_text(encoding="utf-8")
TESTS = {
    str(path.relative_to(PROJECT)): path.read_text(encoding="utf-8")
    for path in sorted((PROJECT / "tests").rglob("README.md"))
}
DOCUMENTS = {"README.md": README, **{f"help {topic}": topic_text(topic) for topic in TOPICS}, **TESTS}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
OPERATORS = re.compile(r"[|<>&;()]+")


class Form(Enum):
    """How a command line is shown."""

    LINE = "a line of its own, in a fenced block or in the examples of `--help`"
    SESSION = "a line of a `console` block, with its output"
    INLINE = "inline code"


class Shown(NamedTuple):
    """A command line in a document."""

    source: str
    line: str
    form: Form


def fenced(text: str, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return [block for name, block in FENCE.findall(text) if name == language]


def shown(program: str) -> list[Shown]:
    """Every command line that begins with `program`, in the documents and in `--help`, each once for each form."""
    found = [*shown_in_documents(program), *shown_in_help(program)]
    return list({(item.line, item.form): item for item in found}.values())


def shown_in_documents(program: str) -> Iterator[Shown]:
    for source, text in DOCUMENTS.items():
        for language, form in (("", Form.LINE), ("console", Form.SESSION)):
            for line in "".join(fenced(text, language)).splitlines():
                if begins(line := line.removeprefix("$ "), program):
                    yield Shown(source, line.partition("  #")[0].strip(), form)
        for code in INLINE.findall(FENCE.sub("", text)):
            if begins(code, program):
                yield Shown(source, code, Form.INLINE)


def begins(line: str, program: str) -> bool:
    """Whether a line is a call of a program (or of a module, in the package named)."""
    return line.startswith((f"{program} ", f"{program}."))


def shown_in_help(program: str) -> Iterator[Shown]:
    for name, command in {"": cli, **COMMANDS}.items():
        for line in map(str.strip, (command.help or "").splitlines()):
            if line.startswith((program, f"source <({program}")) and not line.endswith("."):
                yield Shown(f"{name} --help", line.partition("  #")[0].strip(), Form.LINE)


def calls(line: str) -> list[list[str]]:
    """The words of each call of `orderctl` in a command line, without redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = []
    words: list[str] = []
    for token in [*lexer, ";"]:
        if not OPERATORS.fullmatch(token):
            words.append(token)
            continue
        if "orderctl" in words:
            given = ["ID"] if words[0] == "xargs" else []
            found.append([*words[words.index("orderctl") + 1 :], *given])
        words = []
    return found

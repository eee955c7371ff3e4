"""YAML and JSON as trees that remember where each value stood: strict, bounded, and without a guess.

Called by `manifests`. What is written unquoted stays what was written: text, or exactly an integer, `true`, `false` or
`null`; whatever other readers would turn into something else (0.0015, 1e5, 0o17, 1_000, 1:30) is kept as `Ambiguous` and
refused where it is used. Duplicate keys, anchors, aliases, merge keys and tags are problems. No recursion, so that depth
cannot hurt. It knows nothing of orders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from kernel.errors import Violation

FILE_BYTES_MAX = 8 * 2**20
DEPTH_MAX = 24
SHOWN_MAX = 60
"""Characters of a value that an error shows."""

TRUE_FALSE = {"true": True, "false": False}
EXACT_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,30})")
NUMBER_LIKE = re.compile(
    r"[-+]?(\.[0-9]|[0-9])[0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?"  # 1.5  .5  007  1_000  1e5
    r"|[-+]?0[xXoObB][0-9a-fA-F_]+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"  # 0x1f  0o17  1:30
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
JSON_SPACE = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """An unquoted number that is not exactly an integer: what it means depends on who reads it."""

    text: str


Scalar = str | int | bool | None | Ambiguous


@dataclass(slots=True)
class Node:
    """A value and the line it begins at (0 where the format has no lines to tell)."""

    value: Scalar | dict[str, Node] | list[Node]
    line: int = 0


@dataclass(frozen=True, slots=True)
class Problem(Violation):
    """A violation in a file: where it stands, and what to do about it."""

    where: str = ""
    """File, document and line."""
    remedy: str = ""

    def __str__(self) -> str:
        field_name = f", {self.field}" if self.field else ""
        remedy = f": {self.remedy}" if self.remedy else ""
        return f"{self.where}{field_name}: {self.constraint} is {self.limit}, given {self.value}{remedy}"


@dataclass(slots=True)
class Document:
    """One document of a file, and what is wrong with how it is written."""

    file: str
    number: int
    root: Node
    problems: list[Problem] = field(default_factory=list)
    name: str = ""
    """What it is about, once that is known: for its problems."""

    def problem(self, path: str, constraint: str, limit: str, value: object, remedy: str, *, line: int = 0) -> None:
        """Something is wrong with it."""
        where = f"{self.file}, document {self.number}" + (f" ({self.name})" if self.name else "")
        at = f", line {line}" if line else ""
        given = shown(value) if isinstance(value, Node) else clipped(str(value))
        self.problems.append(Problem(path, constraint, limit, given, f"{where}{at}", remedy))


def shown(value: object) -> str:
    """A value as an error shows it: as it was written, not too long."""
    match value:
        case Node():
            return shown(value.value)
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case Ambiguous(text=text):
            written = text
        case dict():
            written = f"a mapping of {len(value)}"
        case list():
            written = f"a list of {len(value)}"
        case str():
            written = repr(value)
        case _:
            written = str(value)
    return clipped(written)


def clipped(text: str) -> str:
    """A text that is not too long."""
    return text if len(text) <= SHOWN_MAX else f"{text[: SHOWN_MAX - 1]}…"


def documents(file: str, content: bytes) -> list[Document]:
    """The documents of a file that hold anything; what can't be read is a problem of the document in which it stands."""
    if len(content) > FILE_BYTES_MAX:
        return [_unreadable(file, 1, "size", f"{FILE_BYTES_MAX} bytes", f"{len(content)}", "split the file")]
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        written = f"byte {content[problem.start]:#04x} at {problem.start}"
        return [_unreadable(file, 1, "encoding", "UTF-8", written, "save it as UTF-8")]
    if (found := _json_documents(file, text)) is None:
        found = list(_yaml_documents(file, text))
    return [item for item in found if item.root.value is not None or item.problems]


def _unreadable(
    file: str, number: int, constraint: str, limit: str, value: str, remedy: str, line: int = 0
) -> Document:
    found = Document(file, number, Node(None))
    where = f"{file}, document {number}" + (f", line {line}" if line else "")
    found.problems.append(Problem("", constraint, limit, value, where, remedy))
    return found


# ------------------------------------------------------------------------------------------------------------------ JSON
class _Pairs(list[tuple[str, Any]]):
    """The pairs of a JSON object, duplicates and all."""


def _json_documents(file: str, text: str) -> list[Document] | None:
    """JSON values one after the other; None for what is no JSON (it may be YAML)."""
    named_so = file.endswith(".json")
    if not named_so and not text.lstrip().startswith("{"):
        return None
    found: list[Document] = []
    at = _skip(text, 0)
    decoder = json.JSONDecoder(
        object_pairs_hook=_Pairs, parse_float=Ambiguous, parse_int=_integer, parse_constant=Ambiguous
    )
    while at < len(text):
        line = text.count("\n", 0, at) + 1
        try:
            value, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as problem:
            return [*found, _broken(file, len(found) + 1, problem.msg, problem.lineno)] if named_so else None
        except RecursionError:
            return [*found, _too_deep(file, len(found) + 1, line)]
        found.append(_json_document(file, len(found) + 1, value, line))
        at = _skip(text, end)
    return found


def _skip(text: str, at: int) -> int:
    space = JSON_SPACE.match(text, at)
    return space.end() if space else at


def _integer(text: str) -> int | Ambiguous:
    return int(text) if EXACT_INTEGER.fullmatch(text) else Ambiguous(text)


def _broken(file: str, number: int, said: str, line: int) -> Document:
    remedy = "mend it; what follows was not read"
    return _unreadable(file, number, "form", "YAML or JSON", f"what can't be read ({said})", remedy, line)


def _too_deep(file: str, number: int, line: int) -> Document:
    return _unreadable(file, number, "depth", f"{DEPTH_MAX} levels at most", "more", "what follows was not read", line)


def _json_document(file: str, number: int, value: object, line: int) -> Document:
    made = Document(file, number, Node(None, line))
    try:
        made.root = _json_node(made, value, "", 0)
    except RecursionError:
        return _too_deep(file, number, line)
    made.root.line = line
    return made


def _json_node(document: Document, value: Any, path: str, depth: int) -> Node:
    if depth > DEPTH_MAX:
        raise RecursionError
    if isinstance(value, _Pairs):
        made: dict[str, Node] = {}
        for key, item in value:
            here = joined(path, key)
            if key in made:
                document.problem(here, "key", "written once", "it again", "keep one of them")
                continue
            made[key] = _json_node(document, item, here, depth + 1)
        return Node(made)
    if isinstance(value, list):
        return Node([_json_node(document, item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)])
    return Node(value)


def joined(path: str, key: str) -> str:
    """The path of a key."""
    return f"{path}.{clipped(key)}" if path else clipped(key)


# ------------------------------------------------------------------------------------------------------------------ YAML
@dataclass(slots=True)
class _Open:
    """A mapping or list that is being read."""

    node: Node
    path: str
    key: str | None = None
    """The key whose value comes next; None where a key comes next."""
    skips: bool = False
    """Whether the value that comes next is dropped: its key was no key, or stood there already."""


def _yaml_documents(file: str, text: str) -> Iterator[Document]:
    import yaml

    number = 0
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    current: Document | None = None
    try:
        stack: list[_Open] = []
        parsed: Iterator[Any] = yaml.parse(text, Loader=loader)
        for event in parsed:
            line = event.start_mark.line + 1
            if isinstance(event, yaml.DocumentStartEvent):
                number += 1
                current, stack = Document(file, number, Node(None, line)), []
            elif isinstance(event, yaml.DocumentEndEvent) and current is not None:
                yield current
            elif current is not None and not _take(current, stack, event, line):
                yield _too_deep(file, number, line)
                return
    except yaml.MarkedYAMLError as problem:
        marks: list[Any] = [problem.problem_mark, problem.context_mark]
        line = max((mark.line + 1 for mark in marks if mark is not None), default=0)
        if marks[0] is not None and _open_brackets(text[: marks[0].index]) > DEPTH_MAX:
            yield _too_deep(file, max(number, 1), line)
            return
        yield _broken(file, max(number, 1), problem.problem or "broken off", line)
    except (yaml.YAMLError, UnicodeError) as problem:
        yield _broken(file, max(number, 1), " ".join(str(problem).split()), 0)


def _open_brackets(text: str) -> int:
    """How many brackets are open at the end of a text: a parser with a limit of its own stops before it gives an event."""
    return sum(map(text.count, "[{")) - sum(map(text.count, "]}"))


def _take(document: Document, stack: list[_Open], event: Any, line: int) -> bool:
    """Put one event of the parser in its place; False when it stands too deep."""
    import yaml

    match event:
        case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
            stack.pop()
            return True
        case yaml.StreamEndEvent():
            return True
    path = _path_of_next(stack)
    _check_words(document, event, path, line)
    match event:
        case yaml.MappingStartEvent():
            node = Node({}, line)
        case yaml.SequenceStartEvent():
            node = Node([], line)
        case yaml.ScalarEvent():
            node = Node(_scalar(event.value, plain=event.style is None or not event.style), line)
        case _:
            node = Node(None, line)
    _place(document, stack, node, event, line)
    if isinstance(node.value, dict | list):
        stack.append(_Open(node, path))
    return len(stack) <= DEPTH_MAX


def _path_of_next(stack: Sequence[_Open]) -> str:
    if not stack:
        return ""
    top = stack[-1]
    if isinstance(top.node.value, list):
        return f"{top.path}[{len(top.node.value)}]"
    return joined(top.path, top.key) if top.key is not None else top.path


def _check_words(document: Document, event: Any, path: str, line: int) -> None:
    """Anchors, aliases and tags: none are taken."""
    import yaml

    if isinstance(event, yaml.AliasEvent):
        document.problem(path, "value", "written out", f"*{event.anchor}", "no aliases are taken", line=line)
    elif event.anchor is not None:
        document.problem(path, "value", "without an anchor", f"&{event.anchor}", "take it away", line=line)
    if getattr(event, "tag", None) is not None:
        document.problem(path, "value", "without a tag", event.tag, "take it away, quote text", line=line)


def _place(document: Document, stack: Sequence[_Open], node: Node, event: Any, line: int) -> None:
    """A value where it belongs: the root, a list, a key, or the value of a key."""
    if not stack:
        document.root = node
        return
    top = stack[-1]
    holder = top.node.value
    if isinstance(holder, list):
        holder.append(node)
        return
    assert isinstance(holder, dict), "only containers are open"
    if top.key is not None:
        if not top.skips:
            holder[top.key] = node
        top.key, top.skips = None, False
        return
    top.key = event.value if hasattr(event, "value") else shown(node)
    here = joined(top.path, top.key)
    top.skips = True
    if not hasattr(event, "value"):
        document.problem(top.path, "key", "text", shown(node), "write a field's name", line=line)
    elif top.key in holder:
        document.problem(here, "key", "written once", "it again", "keep one of them", line=line)
    else:
        top.skips = False


def _scalar(text: str, *, plain: bool) -> Scalar:
    """What a scalar means: quoted text is text, and of unquoted text no more than is certain."""
    if not plain:
        return text
    if text in ("", "~", "null"):
        return None
    if text in TRUE_FALSE:
        return TRUE_FALSE[text]
    if EXACT_INTEGER.fullmatch(text):
        return int(text)
    return Ambiguous(text) if NUMBER_LIKE.fullmatch(text) else text

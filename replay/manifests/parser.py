"""YAML and JSON as plain values with their places: strict, bounded, and without guessing. Called by `schema`.

Unquoted scalars are text, exact integers, `true`, `false` or `null`; whatever readers interpret differently (0.0015, 1e5,
0o17, 1_000, 1:30) is `Ambiguous` and refused where it is used. Duplicate keys, anchors, aliases, merge keys and tags are
problems. Depth is limited here, before any limit of the parser.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import yaml
from msgspec.structs import replace

from kernel.errors import Violation

FILE_BYTES_MAX = 8 * 2**20
DEPTH_MAX = 24
VALUE_LENGTH_MAX = 60
"""Characters of a value that an error shows."""

MUST_BE = "{field}: must be {limit}, not {value}"
CONSTANTS = {"": None, "~": None, "null": None, "true": True, "false": False}
EXACT_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,30})")
NUMBER_LIKE = re.compile(
    r"[-+]?(\.[0-9]|[0-9])[0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?"  # 1.5  .5  007  1_000  1e5
    r"|[-+]?0[xXoObB][0-9a-fA-F_]+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"  # 0x1f  0o17  1:30
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
JSON_SPACE = re.compile(r"[ \t\n\r]*")
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Ambiguous(msgspec.Struct, frozen=True):
    """An unquoted number that is not an exact integer: readers disagree on its meaning."""

    text: str


class ManifestProblem(Violation, frozen=True):
    """A violation in a file. `str` is where it is, the sentence and the remedy.

    Attributes:
        where: File, document and line.
        remedy: What to do about it, as in "write it".
    """

    where: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        text = self.text if "{field}" in self.text or not self.field else f"{{field}}: {self.text}"
        sentence = Violation.__str__(replace(self, field=self.field or "the document", text=text))
        return f"{self.where}, {sentence}" + (f"; {self.remedy}" if self.remedy else "")


class _TooDeep(Exception):
    """A value is nested too deep, at this line; the rest of the file is not read."""


class Document(msgspec.Struct):
    """One document of a file, and the problems of its form."""

    file: str
    number: int
    root: Any = None
    values: dict[str, Any] = {}
    """Every value by its path, as in `spec.orders[1].price`."""
    lines: dict[str, int] = {}
    """The line at which a value begins, by its path, if the format has lines."""
    problems: list[ManifestProblem] = []
    name: str = ""
    """The object that it describes, once known; for its problems."""

    @property
    def where(self) -> str:
        return f"{self.file}, document {self.number}"

    def problem(
        self, path: str, constraint: str, limit: str, value: str, remedy: str, *, line: int = 0, text: str = MUST_BE
    ) -> None:
        line = line or self.lines.get(path, 0)
        where = self.where + (f" ({self.name})" if self.name else "") + (f", line {line}" if line else "")
        self.problems.append(ManifestProblem(path, constraint, limit, clipped(value), text, where, remedy))

    def put(self, path: str, value: Any, line: int = 0) -> Any:
        """Record where a value is; returns the value."""
        self.values[path] = value
        if line:
            self.lines[path] = line
        return value


def value_text(value: object) -> str:
    """A value as an error shows it: as written, clipped."""
    match value:
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case Ambiguous(text=text):
            return clipped(text)
        case dict():
            return f"a mapping of {len(value)}"
        case list():
            return f"a list of {len(value)}"
    return clipped(repr(value))


def clipped(text: str) -> str:
    return text if len(text) <= VALUE_LENGTH_MAX else f"{text[: VALUE_LENGTH_MAX - 1]}…"


def joined(path: str, key: str | int) -> str:
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{clipped(key)}" if path else clipped(key)


def documents(file: str, content: bytes) -> list[Document]:
    """Return the documents of a file; what cannot be read is a problem of its document."""
    unread = Document(file, 1)
    if len(content) > FILE_BYTES_MAX:
        text = "the file has {value} bytes, more than {limit}"
        unread.problem("", "size", str(FILE_BYTES_MAX), str(len(content)), "split the file", text=text)
        return [unread]
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        written = f"byte {content[problem.start]:#04x} at {problem.start}"
        unread.problem(
            "", "encoding", "UTF-8", written, "save the file as UTF-8", text="{field} has {value}, which is not {limit}"
        )
        return [unread]
    if (found := _json_documents(file, text)) is None:
        found = list(_yaml_documents(file, text))
    return [item for item in found if item.root is not None or item.problems]


def _broken(document: Document, line: int) -> Document:
    document.root = None
    text, remedy = "{field} cannot be read as {limit}", "correct it; the rest of the file was not read"
    document.problem("", "form", "YAML or JSON", "", remedy, line=line, text=text)
    return document


def _too_deep(document: Document, line: int) -> Document:
    document.root = None
    text, remedy = "{field} is nested deeper than {limit} levels", "the rest of the file was not read"
    document.problem("", "depth", str(DEPTH_MAX), "", remedy, line=line, text=text)
    return document


def _is_new(document: Document, holder: dict[str, Any], path: str, key: str, line: int) -> bool:
    if key in holder:
        text = "{field} is written twice"
        document.problem(joined(path, key), "key", "once", "", "keep one of them", line=line, text=text)
    return key not in holder


class _Pairs(list[tuple[str, Any]]):
    """The pairs of a JSON object, duplicates included."""


def _json_documents(file: str, text: str) -> list[Document] | None:
    """Return consecutive JSON values; None if the text is no JSON (it may be YAML)."""
    named_so = file.endswith(".json")
    if not named_so and not text.lstrip().startswith("{"):
        return None
    found: list[Document] = []
    at = _skip(text, 0)
    decoder = json.JSONDecoder(
        object_pairs_hook=_Pairs, parse_float=Ambiguous, parse_int=_integer, parse_constant=Ambiguous
    )
    while at < len(text):
        document, line = Document(file, len(found) + 1), text.count("\n", 0, at) + 1
        found.append(document)
        try:
            value, at = decoder.raw_decode(text, at)
            document.root = _json_value(document, value, "", 0)
        except json.JSONDecodeError as problem:
            return [*found[:-1], _broken(document, problem.lineno)] if named_so else None
        except (RecursionError, _TooDeep):
            return [*found[:-1], _too_deep(document, line)]
        document.lines[""] = line
        at = _skip(text, at)
    return found


def _skip(text: str, at: int) -> int:
    space = JSON_SPACE.match(text, at)
    return space.end() if space else at


def _integer(text: str) -> int | Ambiguous:
    return int(text) if EXACT_INTEGER.fullmatch(text) else Ambiguous(text)


def _json_value(document: Document, value: Any, path: str, depth: int) -> Any:
    if depth > DEPTH_MAX:
        raise _TooDeep
    if isinstance(value, _Pairs):
        made: dict[str, Any] = {}
        for key, item in value:
            if _is_new(document, made, path, key, 0):
                made[key] = _json_value(document, item, joined(path, key), depth + 1)
        return document.put(path, made)
    if isinstance(value, list):
        items = enumerate(value)
        value = [_json_value(document, item, joined(path, index), depth + 1) for index, item in items]
    return document.put(path, value)


def _yaml_documents(file: str, text: str) -> Iterator[Document]:
    document = Document(file, 0)
    try:
        parsed: Iterator[Any] = yaml.parse(text, Loader=LOADER)
        for event in parsed:
            if isinstance(event, yaml.DocumentStartEvent):
                document = Document(file, document.number + 1)
                document.root = _yaml_value(document, parsed, next(parsed), "", 0)
                yield document
    except _TooDeep as problem:
        yield _too_deep(document, problem.args[0])
    except yaml.MarkedYAMLError as problem:
        marks: list[Any] = [mark for mark in (problem.problem_mark, problem.context_mark) if mark is not None]
        line, end = max(((mark.line + 1, mark.index) for mark in marks), default=(0, 0))
        refuse = _too_deep if _brackets_open(text[:end]) > DEPTH_MAX else _broken
        yield refuse(_begun(document), line)
    except (yaml.YAMLError, UnicodeError):
        yield _broken(_begun(document), 0)


def _begun(document: Document) -> Document:
    """The document that broke: the current one, or the next if the current one is complete."""
    whole = document.number == 0 or "" in document.values
    return Document(document.file, document.number + 1) if whole else document


def _brackets_open(text: str) -> int:
    """Brackets open where the parser broke: it looks ahead, past our own limit of depth."""
    return sum(text.count(bracket) for bracket in "[{") - sum(text.count(bracket) for bracket in "]}")


def _yaml_value(document: Document, parsed: Iterator[Any], event: Any, path: str, depth: int) -> Any:
    line = event.start_mark.line + 1
    if depth > DEPTH_MAX:
        raise _TooDeep(line)
    _check_marks(document, event, path, line)
    match event:
        case yaml.ScalarEvent():
            return document.put(path, _scalar(event.value, plain=not event.style), line)
        case yaml.SequenceStartEvent():
            items: list[Any] = []
            while not isinstance(item := next(parsed), yaml.SequenceEndEvent):
                items.append(_yaml_value(document, parsed, item, joined(path, len(items)), depth + 1))
            return document.put(path, items, line)
        case yaml.MappingStartEvent():
            return document.put(path, _yaml_mapping(document, parsed, path, depth), line)
    return document.put(path, None, line)


def _yaml_mapping(document: Document, parsed: Iterator[Any], path: str, depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    while not isinstance(begun := next(parsed), yaml.MappingEndEvent):
        line = begun.start_mark.line + 1
        key = begun.value if isinstance(begun, yaml.ScalarEvent) else None
        if key is None:
            written = value_text(_yaml_value(document, parsed, begun, f"{path} (a key)", depth + 1))
            text = "{field}: a key must be {limit}, not {value}"
            document.problem(path, "key", "text", written, "write the name of a field", line=line, text=text)
        else:
            _check_marks(document, begun, path, line)
        if key is None or not _is_new(document, made, path, key, line):
            _yaml_value(Document(document.file, document.number), parsed, next(parsed), path, depth + 1)  # dropped
        else:
            made[key] = _yaml_value(document, parsed, next(parsed), joined(path, key), depth + 1)
    return made


def _check_marks(document: Document, event: Any, path: str, line: int) -> None:
    """Refuse anchors, aliases and tags."""
    if isinstance(event, yaml.AliasEvent):
        text = "{field}: alias {value} is not allowed"
        document.problem(path, "value", "no alias", f"*{event.anchor}", "write the value", line=line, text=text)
    elif event.anchor is not None:
        text = "{field}: anchor {value} is not allowed"
        document.problem(path, "value", "no anchor", f"&{event.anchor}", "remove it", line=line, text=text)
    if getattr(event, "tag", None) is not None:
        text = "{field}: tag {value} is not allowed"
        document.problem(path, "value", "no tag", event.tag, "remove it, and quote text", line=line, text=text)


def _scalar(text: str, *, plain: bool) -> str | int | bool | Ambiguous | None:
    """The value of a scalar: quoted text is text, unquoted text only what is certain."""
    if plain and text in CONSTANTS:
        return CONSTANTS[text]
    if plain and EXACT_INTEGER.fullmatch(text):
        return int(text)
    return Ambiguous(text) if plain and NUMBER_LIKE.fullmatch(text) else text

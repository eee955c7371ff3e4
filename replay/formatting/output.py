"""How the CLI prints: tables, JSON, YAML, names; ages and durations; text escaped for a terminal.

Everything returns text; nothing here prints or reads a clock. No control character of anybody's text reaches the terminal,
JSON keeps the models' field names, and one thing requested by name is an object, anything else an array.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec

from kernel.clock import NS_PER_S

UNSAFE = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
"""Control characters, characters that change the direction of text, line separators, surrogates: none is printable."""
COLUMN_GAP = "   "
NONE = "<none>"


class Format(StrEnum):
    """Values of `-o`."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"
    JSONL = "jsonl"


class Item(msgspec.Struct, frozen=True):
    """One thing: its name, its data for programs, its rows for people."""

    name: str
    data: dict[str, Any]
    lines: tuple[tuple[str, ...], ...]
    """The cells of each row, wide columns included."""
    kind: str = ""
    """Its kind, if not the listing's."""


class Listing(msgspec.Struct, frozen=True):
    """Things of one kind."""

    kind: str
    """Singular, as in `order`: `-o name` prints `order/ID`."""
    columns: tuple[str, ...]
    narrow: int
    """How many columns are shown without `wide`."""
    items: tuple[Item, ...]
    single: bool = False
    """One thing was requested by name: JSON and YAML are an object."""


def escaped(text: str) -> str:
    """Replace every unsafe character by its escape, as in `\\x1b` and `\\u202e`."""
    if text.isprintable():
        return text
    return re.sub(UNSAFE, lambda found: written_out(ord(found[0])), text)


def written_out(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def render(listing: Listing, form: Format) -> str:
    """Render a listing; empty if there is nothing to show."""
    match form:
        case Format.TABLE | Format.WIDE:
            return table_text(listing, wide=form is Format.WIDE)
        case Format.NAME | Format.JSONL:
            return "".join(item_text(listing.kind, item, form) for item in listing.items)
    data = [item.data for item in listing.items]
    whole: Any = data[0] if listing.single and len(data) == 1 else data
    return yaml_text(whole) if form is Format.YAML else json_text(whole)


def item_text(kind: str, item: Item, form: Format) -> str:
    """Render one thing of a watch, in a format that is not a table."""
    match form:
        case Format.NAME:
            return f"{item.kind or kind}/{escaped(item.name)}\n"
        case Format.JSONL:
            return json_line(item.data)
        case Format.YAML:
            return "---\n" + yaml_text(item.data)
    return json_text(item.data)


def table_text(listing: Listing, *, wide: bool) -> str:
    shown = len(listing.columns) if wide else listing.narrow
    lines = [line[:shown] for item in listing.items for line in item.lines]
    return aligned([listing.columns[:shown], *lines]) if lines else ""


def aligned(lines: Sequence[Sequence[str]], *, widths: Sequence[int] = ()) -> str:
    """Align rows of cells in columns of at least `widths`; unsafe text is escaped."""
    safe = [[escaped(cell) for cell in line] for line in lines]
    needed = column_widths(safe, widths)
    return "".join(
        COLUMN_GAP.join(cell.ljust(width) for cell, width in zip(line, needed, strict=False)).rstrip() + "\n"
        for line in safe
    )


def column_widths(lines: Iterable[Sequence[str]], at_least: Sequence[int] = ()) -> list[int]:
    widths = list(at_least)
    for line in lines:
        widths += [0] * (len(line) - len(widths))
        for index, cell in enumerate(line):
            widths[index] = max(widths[index], len(cell))
    return widths


class WatchPrinter:
    """Renders a watch: one table with fixed column widths, or one thing after another."""

    def __init__(self, form: Format) -> None:
        self._form = form
        self._widths: list[int] = []

    def text(self, listing: Listing) -> str:
        """Render the next listing; the first one with rows brings the table's header."""
        if self._form not in (Format.TABLE, Format.WIDE):
            return "".join(item_text(listing.kind, item, self._form) for item in listing.items)
        shown = len(listing.columns) if self._form is Format.WIDE else listing.narrow
        lines = [line[:shown] for item in listing.items for line in item.lines]
        if lines and not self._widths:
            lines.insert(0, listing.columns[:shown])
            self._widths = column_widths([[escaped(cell) for cell in line] for line in lines])
        return aligned(lines, widths=self._widths)


def json_text(value: Any) -> str:
    """Indented JSON; unsafe characters are escaped as JSON does, so the value read back is the same."""
    import json  # a table needs none

    return json_safe(json.dumps(value, indent=2, ensure_ascii=False)) + "\n"


def json_line(value: Any) -> str:
    import json

    return json_safe(json.dumps(value, separators=(",", ":"), ensure_ascii=False)) + "\n"


def json_safe(text: str) -> str:
    """Escape unsafe characters as JSON does; outside strings there are none but line breaks."""
    return re.sub(UNSAFE, lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def yaml_text(value: Any) -> str:
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=False, default_flow_style=False))


def human_duration(seconds: int) -> str:
    """Format a duration as kubectl does: at most two units, coarser the longer it is."""
    if seconds < -1:
        return "<invalid>"
    minutes, hours = seconds // 60, seconds // 3600
    if seconds < 120:
        return f"{max(seconds, 0)}s"
    if minutes < 10:
        return two_units(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return two_units(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 24 * 8:
        return two_units(hours // 24, "d", hours % 24, "h")
    if hours < 24 * 365 * 2:
        return f"{hours // 24}d"
    if hours < 24 * 365 * 8:
        return two_units(hours // 24 // 365, "y", hours // 24 % 365, "d")
    return f"{hours // 24 // 365}y"


def two_units(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


def counted(number: int, noun: str) -> str:
    """A count with its noun, as in `2 orders`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def age(then_ns: int | None, now_ns: int) -> str:
    """The time since an instant; `<unknown>` for none."""
    if not then_ns:
        return "<unknown>"
    return human_duration(int((now_ns - then_ns) / NS_PER_S))


def utc(instant_ns: int | None) -> str:
    """An instant in UTC, to the microsecond."""
    if not instant_ns:
        return NONE
    second = datetime.fromtimestamp(instant_ns // NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{second}.{instant_ns % NS_PER_S // 1000:06d}Z"

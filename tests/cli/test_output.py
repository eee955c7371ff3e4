"""Formats, escaping, durations and decimals."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.venues.paper.matching.config import built_in_assets, built_in_symbols
from replay.formatting.decimals import Scales
from replay.formatting.output import (
    UNSAFE,
    Format,
    Item,
    Listing,
    WatchPrinter,
    age,
    aligned,
    escaped,
    human_duration,
    json_line,
    json_text,
    render,
    yaml_text,
)

SYMBOLS = {symbol.symbol_id: symbol for symbol in built_in_symbols()}
ASSETS = {asset.asset_id: asset for asset in built_in_assets()}
SCALES = Scales(SYMBOLS.get, ASSETS.get)
ANY_TEXT = st.text(alphabet=st.characters(codec=None))


@given(st.lists(st.lists(ANY_TEXT, min_size=2, max_size=2), min_size=1))
def test_no_text_reaches_a_table_unescaped(lines: list[list[str]]) -> None:
    """A table has one output line per row, and no control character but the line break."""
    text = aligned(lines)

    assert text.count("\n") == len(lines)
    assert not re.search(UNSAFE, text.replace("\n", ""))


@given(st.dictionaries(ANY_TEXT, ANY_TEXT))
def test_json_is_safe_and_says_the_same(value: dict[str, str]) -> None:
    """JSON has no unsafe character and reads back as the same value."""
    for text in (json_text(value), json_line(value)):
        assert not re.search(UNSAFE, text.replace("\n", ""))
        assert json.loads(text) == value
    assert json_line(value).count("\n") == 1


def test_yaml_is_ascii() -> None:
    """YAML escapes everything that is not ASCII."""
    text = yaml_text({"text": "\x1b[31mré\u202e"})

    assert text.isascii()
    assert "\x1b" not in text


def test_escape_writes_the_character_out() -> None:
    """Escape sequences, line breaks and bidirectional marks are printed as escapes."""
    assert escaped("a\x1b[2J\nb\u202ec") == "a\\x1b[2J\\x0ab\\u202ec"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-2, "<invalid>"), (-1, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (200, "3m20s"), (600, "10m"),
        (10_799, "179m"), (10_800, "3h"), (12_060, "3h21m"), (28_800, "8h"), (172_799, "47h"), (172_800, "2d"),
        (273_600, "3d4h"), (691_200, "8d"), (63_072_000, "2y"), (70_000_000, "2y80d"), (252_288_000, "8y"),
    ],
)  # fmt: skip
def test_durations_are_kubectls(seconds: int, text: str) -> None:
    """Durations are formatted like kubectl's HumanDuration."""
    assert human_duration(seconds) == text


def test_age_of_nothing_is_unknown() -> None:
    """A missing instant has age `<unknown>`, a future one `<invalid>`."""
    assert age(None, 10**18) == "<unknown>"
    assert age(10**18, 10**18 - 5 * 10**9) == "<invalid>"


@given(st.integers(0, 2**64 - 1))
def test_decimals_are_exact(value: int) -> None:
    """Prices and quantities in JSON convert back to the same integers, whatever their size."""
    data = SCALES.data({"price": value, "quantity": value}, "BTCUSDT")

    symbol = SYMBOLS["BTCUSDT"]
    assert symbol.price_from_decimal(data["price"]) == value
    assert symbol.quantity_from_decimal(data["quantity"]) == value


def test_what_has_no_scale_stays_an_integer() -> None:
    """A value of an unknown symbol is a JSON number, so that it is not taken for a decimal."""
    assert SCALES.data({"price": 5, "attempts": [{"number": 1}]}, "XRPUSDT") == {
        "price": 5,
        "attempts": [{"number": 1}],
    }


def test_a_strategys_own_data_is_not_touched() -> None:
    """Metadata is not converted, even if a key is called `price`."""
    assert SCALES.data({"metadata": {"price": 7}, "price": 7}, "BTCUSDT") == {"metadata": {"price": 7}, "price": "0.07"}


def test_amounts_take_their_assets_scale() -> None:
    """Fees and balances are decimals of their asset, and keep their sign."""
    data = SCALES.data({"fee": -150, "fee_asset": "BTC", "fees": {"USDT": 10**8}}, "BTCUSDT")

    assert data == {"fee": "-0.00000150", "fee_asset": "BTC", "fees": {"USDT": "1.00000000"}}


def items(*names: str) -> tuple[Item, ...]:
    """Items with these names."""
    return tuple(Item(name, {"name": name}, ((name, "wide"),)) for name in names)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (Format.TABLE, "NAME\na\nbb\n"),
        (Format.WIDE, "NAME   MORE\na      wide\nbb     wide\n"),
        (Format.NAME, "thing/a\nthing/bb\n"),
        (Format.JSONL, '{"name":"a"}\n{"name":"bb"}\n'),
        (Format.YAML, "- name: a\n- name: bb\n"),
    ],
)
def test_formats(form: Format, text: str) -> None:
    """Each format renders a listing of two items."""
    assert render(Listing("thing", ("NAME", "MORE"), 1, items("a", "bb")), form) == text


def test_json_of_one_name_is_an_object() -> None:
    """One item requested by name is an object; a list and an empty list are arrays."""
    columns = ("NAME", "MORE")

    assert json.loads(render(Listing("thing", columns, 1, items("a"), single=True), Format.JSON)) == {"name": "a"}
    assert json.loads(render(Listing("thing", columns, 1, items("a")), Format.JSON)) == [{"name": "a"}]
    assert json.loads(render(Listing("thing", columns, 1, ()), Format.JSON)) == []


def test_a_watch_has_one_header() -> None:
    """The header comes with the first row, and later rows keep the column widths."""
    printer = WatchPrinter(Format.WIDE)
    columns = ("NAME", "MORE")

    assert printer.text(Listing("thing", columns, 1, ())) == ""
    assert printer.text(Listing("thing", columns, 1, items("longer"))) == "NAME     MORE\nlonger   wide\n"
    assert printer.text(Listing("thing", columns, 1, items("a"))) == "a        wide\n"

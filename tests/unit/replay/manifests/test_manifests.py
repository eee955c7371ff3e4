"""Manifests are read strictly, and all their problems are reported at once."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from kernel.errors import NotFoundError, ValidationError
from kernel.order_spec import OcoMode, OrderType, Side, TimeInForce
from kernel.venues.paper.matching.config import built_in_symbols
from replay.manifests.schema import (
    GroupManifest,
    OrderManifest,
    instant_ns_of,
    parse_manifests,
    read_manifests,
    standard_order,
)

BTC = built_in_symbols()[0]
HEAD = "apiVersion: exchange-kernel/v1\nkind: Order\n"
SPEC = 'spec: {symbol_id: BTCUSDT, side: BUY, order_type: LIMIT, quantity: "0.0015", price: "61700.00"}\n'
GOOD = f"{HEAD}metadata: {{name: a, owner: mm-1, labels: {{ladder: x}}}}\n{SPEC}"


def order_text(name: str = "a", **spec: object) -> str:
    """An order manifest as JSON with changed fields; None leaves one out."""
    fields = {"symbol_id": "BTCUSDT", "side": "BUY", "order_type": "LIMIT", "quantity": "0.0015", "price": "61700.00"}
    kept = {key: value for key, value in {**fields, **spec}.items() if value is not None}
    head = {"apiVersion": "exchange-kernel/v1", "kind": "Order", "metadata": {"name": name}}
    return json.dumps({**head, "spec": kept})


def group_text(mode: str, *orders: dict[str, object], name: str = "g") -> str:
    """A group manifest."""
    head = {"apiVersion": "exchange-kernel/v1", "kind": "OrderGroup", "metadata": {"name": name}}
    return json.dumps({**head, "spec": {"mode": mode, "orders": list(orders)}})


def member(name: str, **spec: object) -> dict[str, object]:
    """An order of a group."""
    fields = {"symbol_id": "BTCUSDT", "side": "SELL", "order_type": "LIMIT", "quantity": "1", "price": "70000"}
    return {"name": name, **{key: value for key, value in {**fields, **spec}.items() if value is not None}}


STOP = {"order_type": "STOP", "price": None, "stop_price": "60000"}


def problems(*texts: str, suffix: str = ".yaml") -> list[str]:
    """The problems of files with these contents."""
    with pytest.raises(ValidationError) as caught:
        parse_manifests([(f"f{number}{suffix}", text.encode()) for number, text in enumerate(texts, 1)])
    return [str(item) for item in caught.value.violations] or [str(caught.value)]


def test_an_order_is_read_whole() -> None:
    """Names, enums, decimals as text, and the place in the file are read."""
    (found,) = parse_manifests([("f.yaml", GOOD.encode())])

    assert isinstance(found, OrderManifest)
    assert (found.name, found.owner, found.labels, found.where) == ("a", "mm-1", {"ladder": "x"}, "f.yaml, document 1")
    terms = found.terms
    assert (terms.side, terms.order_type, terms.quantity, terms.price) == (
        Side.BUY,
        OrderType.LIMIT,
        "0.0015",
        "61700.00",
    )
    order = standard_order(found, BTC)
    assert (order.quantity, order.price, order.time_in_force) == (150_000, 6_170_000, TimeInForce.GTC)


def test_yaml_and_json_say_the_same() -> None:
    """Several documents in either format are equal; empty ones and a byte order mark are ignored."""
    as_yaml = "\ufeff---\n---\n" + GOOD + "---\n" + GOOD.replace("name: a", "name: b") + "...\n"
    extra = {"metadata": {"owner": "mm-1", "labels": {"ladder": "x"}}}
    as_json = ""
    for name in "ab":
        made = json.loads(order_text(name))
        made["metadata"] |= extra["metadata"]
        as_json += json.dumps(made, indent=1) + "\n"

    from_yaml = parse_manifests([("f", as_yaml.encode())])
    from_json = parse_manifests([("f", as_json.encode())])

    assert [item.name for item in from_yaml] == ["a", "b"]
    assert [
        (item.name, *(order.terms for order in [item])) for item in from_yaml if isinstance(item, OrderManifest)
    ] == [(item.name, item.terms) for item in from_json if isinstance(item, OrderManifest)]


def test_integers_may_stand_without_quotes() -> None:
    """Unquoted integers have one meaning and are accepted."""
    (found,) = parse_manifests([("f", GOOD.replace('"61700.00"', "61700").encode())])

    assert isinstance(found, OrderManifest)
    assert found.terms.price == "61700"


BAD = [
    (GOOD.replace('"0.0015"', "0.0015"),
     'document 1 (Order a), line 4, spec.quantity: must be text, not 0.0015; write it in quotes, "0.0015"'),
    (GOOD.replace('"0.0015"', "1e3"), 'write it in quotes, "1e3"'),
    (GOOD.replace('"0.0015"', "0o17"), 'write it in quotes, "0o17"'),
    (GOOD.replace('"0.0015"', "1_000"), 'write it in quotes, "1_000"'),
    (GOOD.replace('"0.0015"', "007"), 'write it in quotes, "007"'),
    (GOOD.replace('"0.0015"', "1:30"), 'write it in quotes, "1:30"'),
    (GOOD.replace('"0.0015"', ".inf"), 'write it in quotes, ".inf"'),
    (GOOD.replace('"0.0015"', '"1e3"'), "spec.quantity: must be a decimal as text"),
    (GOOD.replace('"0.0015"', '"-1"'), "spec.quantity: must be a decimal as text"),
    (GOOD.replace('"0.0015"', '"0"'), "spec.quantity: must be more than 0, not '0'"),
    (GOOD.replace('"0.0015"', "true"), "spec.quantity: must be a decimal as text"),
    (GOOD.replace('"0.0015"', "[1]"), "not a list of 1"),
    (GOOD.replace("quantity:", "quantitty:"), "spec.quantitty is not a known field; known fields: symbol_id, side"),
    (GOOD.replace("quantity:", "quantitty:"), "did you mean quantity?"),
    (GOOD.replace('quantity: "0.0015", ', ""), "spec.quantity is required; write it"),
    (GOOD.replace("side: BUY", "side: buy"), "spec.side: must be one of BUY, SELL, not 'buy'; did you mean BUY?"),
    (GOOD.replace("side: BUY", "side: BUY, side: SELL"), "spec.side is written twice; keep one of them"),
    (GOOD + "kind: Order\n", "line 5, kind is written twice"),
    (GOOD.replace("mm-1", "&x mm-1"), "metadata.owner: anchor &x is not allowed; remove it"),
    (GOOD.replace("ladder: x", "ladder: *x"), "metadata.labels.ladder: alias *x is not allowed"),
    (GOOD.replace("ladder: x", "ladder: 1"), 'metadata.labels.ladder: must be text, not 1; write it in quotes, "1"'),
    (GOOD.replace("ladder: x", "<<: {a: b}"), "metadata.labels.<<: must be text, not a mapping of 1"),
    (GOOD.replace("mm-1", "!!str mm-1"), "metadata.owner: tag tag:yaml.org,2002:str is not allowed"),
    (GOOD.replace("mm-1", "x" * 129), "metadata.owner: must be at most 128 characters, not 'xxx"),
    (GOOD.replace("name: a", "name: 7"), 'metadata.name: must be text, not 7; write it in quotes, "7"'),
    (GOOD.replace("name: a", "name: no spaces"), "metadata.name: must be a letter or digit"),
    (GOOD.replace("name: a, ", ""), "metadata.name is required"),
    (GOOD.replace("/v1", "/v2"), "apiVersion: must be one of exchange-kernel/v1, not 'exchange-kernel/v2'"),
    (GOOD.replace("kind: Order", "kind: Orders"), "kind: must be one of Order, OrderGroup"),
    (HEAD, "spec is required"),
    (GOOD + "status: {}\n", "status is not a known field; known fields: apiVersion, kind, metadata, spec"),
    ("a: [", "f1.yaml, document 1, line 2, the document cannot be read as YAML or JSON"),
    ("just text", "the document: must be a mapping"),
    ("a: [" + "[" * 24 + "]" * 25, "nested deeper than 24 levels"),
    ("- " * 30 + "x", "nested deeper than 24 levels"),
    ("[" * 5_000, "nested deeper than 24 levels"),
    ('{"a":' * 5_000, "nested deeper than 24 levels"),
    (order_text(price=None), "spec.price is required for LIMIT orders; write it"),
    (order_text(order_type="MARKET"), "spec.price is not allowed for MARKET orders; remove it"),
    (order_text(order_type="STOP_LIMIT"), "spec.stop_price is required for STOP_LIMIT orders"),
    (order_text(time_in_force="GTD"), "spec.expire_at is required for GTD orders"),
    (order_text(expire_at="2030-01-01T00:00:00Z"), "spec.expire_at is not allowed for GTC orders"),
    (order_text(time_in_force="GTD", expire_at="2030-01-01T00:00:00"), "an RFC 3339 instant with its zone"),
    (order_text(time_in_force="GTD", expire_at="2030-13-01T00:00:00Z"), "an RFC 3339 instant with its zone"),
    (order_text(post_only=True, time_in_force="IOC"), "spec.post_only is for LIMIT orders that can rest"),
    (order_text(post_only="yes"), "spec.post_only: must be true or false, not 'yes'"),
    (order_text(display_quantity="2"), "spec.display_quantity: must be more than 0 and at most the quantity, 0.0015"),
    (order_text(on_unsolicited_cancel="KEEP"), "spec.on_unsolicited_cancel: must be one of STOP, RECREATE"),
    (order_text(symbol_id="BTC USDT"), "spec.symbol_id: must be 1 to 64 printable ASCII characters"),
    (order_text().replace('"0.0015"', "0.0015"), 'write it in quotes, "0.0015"'),
    (order_text().replace('"side"', '"side": "BUY", "side"'), "spec.side is written twice"),
    (order_text().replace('"0.0015"', "NaN"), 'write it in quotes, "NaN"'),
    (group_text("ONE_CANCELS_OTHER", member("a")), "spec.orders: must be at least 2 for ONE_CANCELS_OTHER"),
    (group_text("ONE_TRIGGERS_OTHER", member("a")), "spec.orders: must be a parent and at least one child"),
    (group_text("NONE"), "spec.orders: must be at least 1 for NONE, not 0"),
    (group_text("ONE_WINS", member("a"), member("b")), "spec.mode: must be one of NONE, ONE_CANCELS_OTHER"),
    (group_text("NONE", member("a"), member("a")), "spec.orders[1].name 'a' is already used"),
    (group_text("NONE", member("g")), "spec.orders[0].name 'g' is already used"),
    (group_text("ONE_CANCELS_OTHER", member("a"), member("b", symbol_id="ETHUSDT")),
     "spec.orders[1].symbol_id ETHUSDT is not BTCUSDT, the symbol of the group"),
    (group_text("ONE_CANCELS_OTHER", member("a"), member("b", **{**STOP, "stop_price": "70000"})),
     "spec.orders[1].stop_price 70000 must be below 70000, the price of a"),
    (group_text("ONE_CANCELS_OTHER", member("a", side="BUY"), member("b", side="BUY", **STOP)),
     "spec.orders[1].stop_price 60000 must be above 70000, the price of a"),
    (group_text("NONE", {"symbol_id": "BTCUSDT"}), "spec.orders[0].name is required"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), BAD, ids=range(len(BAD)))
def test_what_is_wrong_is_told(text: str, words: str) -> None:
    """A problem is one line with file, document, field, rule, value and remedy."""
    found = problems(text)

    assert any(words in line for line in found), found
    assert all(line.startswith("f1.yaml, document 1") for line in found)
    assert all("\n" not in line for line in found)


def test_all_problems_of_all_files_are_told() -> None:
    """Every problem of every document and file is reported."""
    two = GOOD.replace("BUY", "HOLD").replace('"0.0015"', "0.1") + "---\n" + GOOD

    found = problems(two, GOOD)

    assert [line.split(":")[0] for line in found] == [
        "f1.yaml, document 1 (Order a), line 4, spec.side",
        "f1.yaml, document 1 (Order a), line 4, spec.quantity",
        "f1.yaml, document 2, line 8, metadata.name 'a' is already used in f1.yaml, document 1; choose another",
        "f2.yaml, document 1, line 3, metadata.name 'a' is already used in f1.yaml, document 1; choose another",
    ]


def test_a_bomb_of_aliases_is_small() -> None:
    """Ten levels of ten aliases give a bounded number of problems."""
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]

    assert len(problems("\n".join(["a0: &a0 x", *levels]))) < 150


def test_nothing_is_no_manifest() -> None:
    """A file without a document is an error."""
    assert "no manifest in f1.yaml" in problems("---\n# nothing\n")[0]


def test_a_bracket_is_a_group() -> None:
    """A parent and its two children are read, each with its own name."""
    text = group_text(
        "ONE_TRIGGERS_OTHER",
        member("entry", side="BUY", order_type="MARKET", price=None),
        member("profit"),
        member("loss", **STOP),
        name="bracket",
    )

    (found,) = parse_manifests([("f", text.encode())])

    assert isinstance(found, GroupManifest)
    assert (found.name, found.mode) == ("bracket", OcoMode.ONE_TRIGGERS_OTHER)
    assert [order.name for order in found.orders] == ["entry", "profit", "loss"]


def test_what_only_the_market_can_tell_names_the_manifest() -> None:
    """Problems that depend on the symbol name file, document and field."""
    (found,) = parse_manifests([("f", order_text(price="61700.001", quantity="0.123456789").encode())])
    assert isinstance(found, OrderManifest)

    with pytest.raises(ValidationError) as caught:
        standard_order(found, BTC)

    assert list(map(str, caught.value.violations)) == [
        "f, document 1 (Order a), spec.quantity 0.123456789 has more than 8 decimal places; change the manifest",
        "f, document 1 (Order a), spec.price 61700.001 has more than 2 decimal places; change the manifest",
    ]


@pytest.mark.parametrize(
    ("text", "instant_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00.000000001+01:00", 1),
        ("2030-01-01t00:00:00.5z", 1_893_456_000_500_000_000),
        ("1969-12-31T23:59:59Z", None), ("2030-01-01", None), ("2030-01-01T00:00:00", None), ("2300-01-01T00:00:00Z", None),
        ("2030-02-30T00:00:00Z", None), ("2030-01-01T00:00:00+25:00", None), ("0001-01-01T00:00:00+14:00", None),
    ],
)  # fmt: skip
def test_instants_are_exact(text: str, instant_ns: int | None) -> None:
    """Instants are exact to the nanosecond and need a time zone."""
    assert instant_ns_of(text) == instant_ns


def test_files_and_stdin_are_read_together(tmp_path: Path) -> None:
    """Files are read in order; an unreadable file is named."""
    path = tmp_path / "a.yaml"
    path.write_text(GOOD)

    found = read_manifests([path, "-"], stdin=lambda: order_text("b").encode())

    assert [item.name for item in found] == ["a", "b"]
    with pytest.raises(NotFoundError, match=rf"none\.yaml cannot be read: {os.strerror(errno.ENOENT)}"):
        read_manifests([path, tmp_path / "none.yaml"])
    with pytest.raises(NotFoundError, match=os.strerror(errno.EISDIR)):
        read_manifests([tmp_path])

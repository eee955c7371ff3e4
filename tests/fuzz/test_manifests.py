"""The manifest reader accepts any file: manifests, or a `ValidationError` whose every line names file and
document.
"""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from kernel.errors import ValidationError
from kernel.venues.paper.matching.config import built_in_symbols
from replay.manifests.schema import Manifest, orders_of, parse_manifests, standard_order
from tests.cli.conftest import observe_markets
from tests.cli.world import World
from tests.fuzz.mutations import ODD_TEXTS, changed, damaged, deep, fuzzed, json_values, text_of

pytestmark = pytest.mark.xdist_group("fuzzed manifests")  # these share what is costly to make

SYMBOLS = {symbol.symbol_id: symbol for symbol in built_in_symbols()}
ORDER: dict[str, Any] = {
    "apiVersion": "exchange-kernel/v1",
    "kind": "Order",
    "metadata": {"name": "a", "owner": "mm-1", "labels": {"ladder": "x"}},
    "spec": {
        "symbol_id": "BTCUSDT", "side": "BUY", "order_type": "LIMIT", "quantity": "0.0015", "price": "61700.00",
        "time_in_force": "GTD", "expire_at": "2030-01-01T00:00:00Z", "post_only": True, "display_quantity": "0.001",
    },
}  # fmt: skip
GROUP: dict[str, Any] = {
    "apiVersion": "exchange-kernel/v1",
    "kind": "OrderGroup",
    "metadata": {"name": "g"},
    "spec": {
        "mode": "ONE_CANCELS_OTHER",
        "orders": [
            {"name": "b", "symbol_id": "BTCUSDT", "side": "SELL", "order_type": "LIMIT", "quantity": 1, "price": "70000"},
            {"name": "c", "symbol_id": "BTCUSDT", "side": "SELL", "order_type": "STOP", "quantity": "1",
             "stop_price": "60000"},
        ],
    },
}  # fmt: skip
AS_YAML = yaml.safe_dump_all([ORDER, GROUP]).encode()
WORDS = st.sampled_from((
    *ODD_TEXTS, "0.0015", "1e5", "0x1f", "1_000", "1:30", "~", "yes", "&a", "*a", "<<", "!!int",
    "!!python/object:os.system",
    "- -", "? ", ": ", "|", ">-", "---", "...", "%YAML 9.9", "%TAG ! x", "\t", "[", "]", "{", "}", "'", "#", "@", "`",
    "9" * 5_000, "0." + "0" * 5_000 + "1", "2030-01-01", "&a [*a, *a]",
))  # fmt: skip


def read(content: bytes, name: str = "f.yaml") -> tuple[Manifest, ...]:
    """Read a file: the result is a valid manifest, or each line of the error names its place."""
    try:
        found = parse_manifests([(name, content)])
    except ValidationError as problem:
        for item in problem.violations:
            assert re.match(rf"{re.escape(name)}, document \d+", str(item)), item
            assert len(str(item)) < 900, item
        assert problem.violations or "no manifest in" in str(problem)  # noqa: PT017 both ends are fine
        return ()
    names = [order.name for item in found for order in orders_of(item)]
    assert len(set(names)) == len(names) > 0
    for order in (order for item in found for order in orders_of(item)):
        try:
            standard_order(order, SYMBOLS["BTCUSDT"])
        except ValidationError as problem:
            assert problem.violations  # noqa: PT017 both ends are fine
    return found


def test_the_samples_are_valid() -> None:
    """The inputs that the other tests damage are valid."""
    assert len(read(AS_YAML)) == 2
    assert len(read((json.dumps(ORDER) + json.dumps(GROUP)).encode())) == 2


@fuzzed(75)
@given(st.binary(max_size=300), st.sampled_from(("f.yaml", "f.json", "stdin")))
@example(deep(50_000).encode(), "f.yaml")
@example(deep(50_000, of="{}").encode(), "f.json")
@example(b"[" * 100_000, "f.yaml")
@example(b"- " * 20_000, "f.yaml")
@example(b"? " * 20_000, "f.yaml")
@example(b"{" * 100_000, "stdin")
def test_any_bytes(content: bytes, name: str) -> None:
    """Any file."""
    read(content, name)


@fuzzed(150)
@given(damaged(AS_YAML))
def test_damaged_yaml(content: bytes) -> None:
    """Valid manifests with damaged bytes."""
    read(content)


@fuzzed(125)
@given(changed(ORDER) | changed(GROUP) | json_values, st.sampled_from(("f.yaml", "f.json")))
def test_changed_values(value: Any, name: str) -> None:
    """Valid manifests with fields dropped, renamed, repeated or replaced."""
    read(text_of(value).encode(), name)


@fuzzed(100)
@given(st.lists(st.tuples(st.integers(0, 60), WORDS), min_size=1, max_size=3))
def test_changed_words(changes: list[tuple[int, str]]) -> None:
    """Valid YAML with words replaced by words that are special in YAML."""
    words = AS_YAML.decode().split(" ")
    for at, word in changes:
        words[at % len(words)] = word
    read(" ".join(words).encode(errors="surrogatepass"))


@fuzzed(75)
@given(st.decimals(allow_nan=False, allow_infinity=False) | st.floats() | st.integers())
def test_no_number_is_taken_for_another(number: Any) -> None:
    """An unquoted number is refused or is exactly that integer."""
    text = AS_YAML.decode().replace("'0.0015'", str(number), 1)

    for manifest in read(text.encode()):
        for order in orders_of(manifest):
            assert order.name != "a" or order.terms.quantity == str(number)


# ------------------------------------------------------------------------------------------------- on the command line
@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A log that has symbols and no leader."""
    world = World(f"sqlite:///{tmp_path_factory.mktemp('manifests') / 'kernel.db'}")
    asyncio.run(observe_markets(world.url))
    return world


def head(world: World) -> int:
    """The position of a log's last event."""
    path = world.url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("select max(position) from log").fetchone()[0])


TAKEN = ("symbol_id", "side", "order_type", "quantity", "price", "post_only")
SIMPLE = {**ORDER, "spec": {name: ORDER["spec"][name] for name in TAKEN}}
"""An order that the market takes."""
TWO = yaml.safe_dump_all([SIMPLE, {**SIMPLE, "metadata": {"name": "b"}}]).encode()


@fuzzed(50)
@given(damaged(TWO) | changed(SIMPLE).map(lambda value: text_of(value).encode()))
@example(TWO)
def test_apply_is_atomic_and_idempotent(idle: World, content: bytes) -> None:
    """A refused `apply` changes nothing; an accepted one changes nothing when repeated, and `diff` is empty."""
    path = Path(idle.url.removeprefix("sqlite:///")).with_name("m.yaml")
    path.write_bytes(content)
    words = ["apply", "-f", str(path), "--wait", "recorded"]
    before = head(idle)
    expected = idle.call("diff", "-f", str(path)).exit_code
    result = idle.call(*words)

    assert result.exit_code in {0, 2, 4, 5}, result.stderr
    assert "Traceback" not in result.stderr
    assert "error: unexpected" not in result.stderr
    if result.exit_code:
        assert (result.stdout, head(idle)) == ("", before)
        assert expected != 0
    else:
        after = head(idle)
        assert expected == (1 if after > before else 0)
        assert "created" not in (again := idle.ok(*words))
        assert "configured" not in again
        assert head(idle) == after
        assert idle.call("diff", "-f", str(path)).exit_code == 0

"""The canonical text of a state: the fast writer agrees with its definition."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from kernel.lifecycle.immutable import SharedSequence
from kernel.log.backends.memory import MemoryRecorder
from kernel.log.engine.records import event_of
from kernel.models import ExecType, OrdStatus
from kernel.order_spec import OrderType, SymbolMetadata, TimeInForce
from kernel.values import Value
from projections.digest import canonical
from projections.state import State
from tests.recorded import log_of, simulated

pytestmark = pytest.mark.xdist_group("simulated runs")  # these share costly fixtures


def defined(value: Any) -> str:
    """The definition of the text: mappings and sets sorted, fields like a mapping, after the class's name."""
    if isinstance(value, dict):
        return "{" + ",".join(sorted(f"{defined(key)}:{defined(item)}" for key, item in value.items())) + "}"
    if isinstance(value, set | frozenset):
        return "{" + ",".join(sorted(map(defined, value))) + "}"
    if isinstance(value, list | tuple | SharedSequence):
        return "[" + ",".join(map(defined, value)) + "]"
    if isinstance(value, Value) or is_dataclass(value):
        names = getattr(value, "__struct_fields__", None) or [item.name for item in fields(value)]
        return type(value).__name__ + defined({name: getattr(value, name) for name in names})
    return repr(value)


@pytest.fixture(scope="module")
def recorded() -> MemoryRecorder:
    """A simulated run, played outside of the tests' event loop."""
    return simulated(11)


async def test_the_text_of_a_state_is_as_defined(recorded: MemoryRecorder) -> None:
    """Each part of a state after a run with faults, and each of its events, is written as defined."""
    state = State()
    async for rows in log_of(recorded).read():
        page = [event_of(row) for row in rows]
        state.apply(page)
        assert [canonical(event) for event in page] == [defined(event) for event in page]
    for intent_id, record in state.records().items():
        for value in (record, state.order_state(intent_id)):
            assert canonical(value) == defined(value)
    parts = state.snapshot()
    assert parts.symbols, "the run has markets"
    assert canonical(parts) == defined(parts)


def test_members_of_two_enums_have_different_texts() -> None:
    """Equal members of different enums have different texts, in a value too."""
    assert ExecType.NEW == OrdStatus.NEW  # type: ignore[comparison-overlap]
    assert canonical((ExecType.NEW, OrdStatus.NEW)) == defined((ExecType.NEW, OrdStatus.NEW))
    symbol = SymbolMetadata(
        symbol_id="BTCUSDT", base_asset="BTC", quote_asset="USDT", price_decimals=2, quantity_decimals=8, lot_size=1,
        order_types=frozenset(OrderType), times_in_force=frozenset(TimeInForce),
    )  # fmt: skip
    assert canonical({"market": [symbol]}) == defined({"market": [symbol]})

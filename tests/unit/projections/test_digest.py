"""A state as text: the quick way to write it says the same as its definition."""

from __future__ import annotations

from typing import Any

import pytest

from kernel.lifecycle.trades import Trades
from kernel.log.backends.memory import MemoryRecorder
from kernel.log.engine.records import event_of
from kernel.models import ExecType, OrdStatus
from kernel.order_spec import OrderType, SymbolMetadata, TimeInForce
from projections.digest import canonical
from projections.state import State
from tests.recorded import log_of, simulated

pytestmark = pytest.mark.xdist_group("digest")  # these share what is costly to make


def defined(value: Any) -> str:
    """What the text of a value is: mappings and sets sorted, fields as a mapping, models as they dump themselves."""
    if isinstance(value, dict):
        return "{" + ",".join(sorted(f"{defined(key)}:{defined(item)}" for key, item in value.items())) + "}"
    if isinstance(value, set | frozenset):
        return "{" + ",".join(sorted(map(defined, value))) + "}"
    if isinstance(value, list | tuple | Trades):
        return "[" + ",".join(map(defined, value)) + "]"
    if hasattr(value, "__dataclass_fields__"):
        return type(value).__name__ + defined({name: getattr(value, name) for name in value.__dataclass_fields__})
    if hasattr(value, "model_dump"):
        return type(value).__name__ + defined(value.model_dump())
    return repr(value)


@pytest.fixture(scope="module")
def recorded() -> MemoryRecorder:
    """A run; it is played outside of the tests' loop."""
    return simulated(11)


async def test_a_state_has_the_text_that_is_defined(recorded: MemoryRecorder) -> None:
    """Each part of a state after a run with all kinds of trouble, and each of its events, is written as defined."""
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


def test_members_of_two_enums_are_told_apart() -> None:
    """Members that compare equal are written each as its own, and a model is written as it dumps itself."""
    assert ExecType.NEW == OrdStatus.NEW  # type: ignore[comparison-overlap]
    assert canonical((ExecType.NEW, OrdStatus.NEW)) == defined((ExecType.NEW, OrdStatus.NEW))
    symbol = SymbolMetadata(
        symbol_id="BTCUSDT", base_asset="BTC", quote_asset="USDT", price_decimals=2, quantity_decimals=8, lot_size=1,
        order_types=frozenset(OrderType), times_in_force=frozenset(TimeInForce),
    )  # fmt: skip
    assert canonical({"market": [symbol]}) == defined({"market": [symbol]})

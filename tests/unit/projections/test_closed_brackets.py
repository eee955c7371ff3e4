"""Trades outside a bracket close what it holds: the booking of `Groups`, and the rule for its exits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from kernel.groups import Group, fees_in_base, permitted_quantity
from kernel.models import OrderIntent
from kernel.order_spec import OcoMode, OrderType, Side, StandardOrder, SymbolMetadata
from projections.folds.groups import Groups

SYMBOL = SymbolMetadata(
    symbol_id="S", base_asset="X", quote_asset="Y", price_decimals=2, quantity_decimals=3, tick_size=1, lot_size=10
)


def bracket(name: str, bought: int, **fields: object) -> Group:
    group = Group(name, OcoMode.ONE_TRIGGERS_OTHER, (f"{name}1", f"{name}2"))
    return replace(group, filled={f"{name}1": bought}, symbol_id="S", is_closable=True, **fields)


def parent(group: Group) -> OrderIntent:
    order = StandardOrder(symbol_id="S", side=Side.BUY, order_type=OrderType.MARKET, quantity=100)
    return OrderIntent(
        intent_id=group.intent_ids[0], exchange_id="e", order=order, created_at_ns=int(group.group_id[1:])
    )


def held_by(*groups: Group) -> Groups:
    found = Groups()
    found.restore(groups, {})
    return found


@given(st.lists(st.integers(-60, 60).filter(bool), max_size=8))
def test_a_reversed_trade_leaves_no_trace(trades: list[int]) -> None:
    """Trades that are busted in the opposite order restore what the brackets hold; none is closed beyond it."""
    groups = held_by(bracket("b1", 30), bracket("b2", 50))
    for quantity in trades:
        groups.book_outside("S", "", quantity, parent=parent)
        assert all(0 <= item.closed_qty <= 80 and item.open_qty >= 0 for item in groups.by_id.values())
    for quantity in reversed(trades):
        groups.book_outside("S", "", -quantity, parent=parent)
    assert [item.closed_qty for item in groups.by_id.values()] == [0, 0]
    assert groups.outside == ({"S": {}} if trades else {})


def test_the_oldest_bracket_is_closed_first() -> None:
    """What was bought outside is sold first; other owners close nothing."""
    groups = held_by(bracket("b2", 50), bracket("b1", 30))
    groups.book_outside("S", "", 10, parent=parent)
    groups.book_outside("S", "other", -100, parent=parent)
    assert [item.closed_qty for item in groups.by_id.values()] == [0, 0]
    groups.book_outside("S", "", -50, parent=parent)
    assert {name: item.closed_qty for name, item in groups.by_id.items()} == {"b1": 30, "b2": 10}


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 100), st.integers(0, 100), st.integers(1, 20))
def test_an_exit_never_exceeds_what_is_held(bought: int, intended: int, closed: int, fees: int, lot: int) -> None:
    """The permitted quantity is in lots, and at most what was bought less fees and what others closed."""
    group = bracket("b1", bought, closed_qty=closed)
    permitted = permitted_quantity(group, "b12", intended, fees=fees, lot=lot)
    assert 0 <= permitted <= max(0, min(intended, bought - closed - fees))
    assert permitted % lot == 0
    assert permitted + lot > min(intended, bought - closed - fees)


def test_fees_are_rounded_up_to_the_quantity_scale() -> None:
    """A fee at a finer scale takes a whole unit; a rebate, another asset and a short take nothing."""
    group = replace(bracket("b1", 100), fees={"X": 1_001, "Y": 7})
    assert fees_in_base(group, Side.BUY, SYMBOL, {"X": 6}) == 2
    assert fees_in_base(group, Side.BUY, SYMBOL, {"X": 2}) == 10_010
    assert fees_in_base(group, Side.SELL, SYMBOL, {"X": 6}) == 0
    assert fees_in_base(replace(group, fees={"X": -5, "Y": 7}), Side.BUY, SYMBOL, {"X": 6}) == 0
    assert fees_in_base(group, Side.BUY, None, {}) == 0

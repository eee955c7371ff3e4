"""What a group lets its members be: `permitted_quantity`, `excess` and the bound `max_excess`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.commands.place_group import quantities_at_risk
from kernel.groups import (
    Group,
    excess,
    group_max_excess,
    group_violations,
    max_excess,
    permitted_quantity,
    quantity_at_risk,
)
from kernel.order_spec import OcoMode, OrderType, Side, StandardOrder, StandardOrderGroup

OCO, OUO, OTO = OcoMode.ONE_CANCELS_OTHER, OcoMode.ONE_UPDATES_OTHER, OcoMode.ONE_TRIGGERS_OTHER
QUANTITIES = st.lists(st.integers(1, 20), min_size=2, max_size=4)
MODES = st.sampled_from(OcoMode)
CHOICES = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=12)


def a_group(mode: OcoMode, count: int = 2) -> Group:
    """A group of members a, b, c, …"""
    return Group("g", mode, tuple("abcdefgh"[:count]), version=1)


def an_order(
    price: int | None = 100, *, side: Side = Side.SELL, stop: int | None = None, quantity: int = 5
) -> StandardOrder:
    """A limit, a stop, or both."""
    kinds = {(True, False): OrderType.LIMIT, (False, True): OrderType.STOP, (True, True): OrderType.STOP_LIMIT}
    kind = kinds[price is not None, stop is not None]
    return StandardOrder(symbol_id="S", side=side, order_type=kind, quantity=quantity, price=price, stop_price=stop)


@pytest.mark.parametrize(
    ("mode", "filled", "allowed"),
    [
        (OcoMode.NONE, {"a": 3}, {"a": 5, "b": 5}),
        (OCO, {}, {"a": 5, "b": 5}),
        (OCO, {"a": 1}, {"a": 5, "b": 0}),
        (OUO, {"a": 2}, {"a": 5, "b": 3}),
        (OUO, {"a": 2, "b": 1}, {"a": 4, "b": 3}),
        (OUO, {"a": 5}, {"a": 5, "b": 0}),
        (OTO, {}, {"a": 5, "b": 0, "c": 0}),
        (OTO, {"a": 3}, {"a": 5, "b": 3, "c": 3}),
        (OTO, {"a": 3, "b": 2}, {"a": 5, "b": 3, "c": 1}),
        (OTO, {"a": 5, "b": 5}, {"a": 5, "b": 5, "c": 0}),
    ],
)
def test_permitted_quantity_of_each_member(mode: OcoMode, filled: dict[str, int], allowed: dict[str, int]) -> None:
    """Of five for each member, the fills of the others leave or release this much."""
    group = a_group(mode, len(allowed))
    for name, quantity in filled.items():
        group = group.with_fill(name, quantity)
    assert {name: permitted_quantity(group, name, 5) for name in allowed} == allowed


def test_a_bust_does_not_bring_the_other_leg_back() -> None:
    """The first fill cancels the others for good, also if it is busted later."""
    group = a_group(OCO).with_fill("a", 2).with_fill("a", 0)
    assert permitted_quantity(group, "b", 5) == 0
    assert excess(group.with_fill("b", 1), {}) == 1


@given(MODES, QUANTITIES, CHOICES)
def test_permitted_fills_cause_no_excess(mode: OcoMode, quantities: list[int], fills: list[tuple[int, int]]) -> None:
    """Fills within the permitted quantity cause no excess, and the permitted quantity never falls below the filled one."""
    group = a_group(mode, len(quantities))
    wanted = dict(zip(group.intent_ids, quantities, strict=True))
    for index, quantity in fills:
        name = group.intent_ids[index % len(quantities)]
        filled = group.filled.get(name, 0)
        most = permitted_quantity(group, name, wanted[name])
        group = group.with_fill(name, min(most, filled + quantity))
        assert excess(group, wanted) == 0
        for other in group.intent_ids:
            assert group.filled.get(other, 0) <= permitted_quantity(group, other, wanted[other]) <= wanted[other]


@given(MODES, QUANTITIES, st.integers(1, 20), CHOICES)
def test_no_race_exceeds_the_announced_excess(
    mode: OcoMode, quantities: list[int], led: int, fills: list[tuple[int, int]]
) -> None:
    """Whatever working orders fill after the first fill, in any order, the excess stays within `max_excess`."""
    group = a_group(mode, len(quantities))
    wanted = dict(zip(group.intent_ids, quantities, strict=True))
    works = dict(wanted)
    if mode is OTO:  # the leader fills so much and ends, then its followers work for that, and race
        group = group.with_fill("a", min(led, wanted["a"]))
        works = {name: permitted_quantity(group, name, wanted[name]) for name in wanted} | {"a": group.filled["a"]}
    for index, quantity in fills:
        name = group.intent_ids[index % len(quantities)]
        group = group.with_fill(name, min(works[name], group.filled.get(name, 0) + quantity))
    assert excess(group, wanted) <= max_excess(mode, quantities)


@given(MODES, QUANTITIES)
def test_quantity_at_risk_of_a_new_group(mode: OcoMode, quantities: list[int]) -> None:
    """Children count with their excess only, all other orders in full."""
    orders = [an_order(quantity=quantity) for quantity in quantities]
    counted = quantities_at_risk(mode, orders)
    bound = group_max_excess(StandardOrderGroup(orders=tuple(orders), mode=mode))
    assert sum(counted) == (quantities[0] + bound if mode is OTO else sum(quantities))


@given(QUANTITIES, st.integers(0, 20))
def test_quantity_at_risk_of_unreleased_children(quantities: list[int], filled: int) -> None:
    """Before the parent fills, its children count as when the group was placed; once it is filled, no more."""
    group = a_group(OTO, len(quantities))
    wanted = dict(zip(group.intent_ids, quantities, strict=True))
    counted = [quantity_at_risk(group, name, wanted, parent_left=quantities[0]) for name in group.intent_ids]
    assert [quantities[0], *counted[1:]] == quantities_at_risk(
        OTO, [an_order(quantity=quantity) for quantity in quantities]
    )
    whole = group.with_fill("a", quantities[0])
    assert not any(quantity_at_risk(whole, name, wanted, parent_left=0) for name in group.intent_ids)
    part = group.with_fill("a", min(filled, quantities[0]))
    left = quantities[0] - part.filled["a"]
    most = sum(permitted_quantity(part, name, wanted[name]) + quantity_at_risk(part, name, wanted, parent_left=left)
               for name in group.intent_ids[1:])  # fmt: skip
    assert most - part.filled["a"] <= max(0, sum(counted[1:]))  # what may still go beyond what the leader has done


@pytest.mark.parametrize(
    ("mode", "orders", "fields"),
    [
        (OCO, [an_order(110), an_order(None, stop=90)], []),
        (OCO, [an_order(110), an_order(None, stop=110)], ["orders[1].stop_price"]),
        (OUO, [an_order(None, stop=120), an_order(110, side=Side.SELL)], ["orders[0].stop_price"]),
        (OCO, [an_order(90, side=Side.BUY), an_order(None, side=Side.BUY, stop=80)], ["orders[1].stop_price"]),
        (OTO, [an_order(100, side=Side.BUY), an_order(110), an_order(105, stop=111)], ["orders[2].stop_price"]),
        (OcoMode.NONE, [an_order(110), an_order(None, stop=120)], []),
    ],
)
def test_a_stop_on_the_wrong_side_of_its_limit_is_a_violation(
    mode: OcoMode, orders: list[StandardOrder], fields: list[str]
) -> None:
    """Of two alternatives on one side, a stop on the wrong side of the limit would trade at once."""
    found = group_violations(StandardOrderGroup(orders=tuple(orders), mode=mode))
    assert [item.field for item in found] == fields

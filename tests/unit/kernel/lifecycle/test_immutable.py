"""Values copied the fast way equal those copied the usual way."""

from __future__ import annotations

import dataclasses

import pytest

from kernel.lifecycle import Record
from kernel.lifecycle.immutable import assign_fresh, replace
from kernel.lifecycle.order_facts import OrderFacts
from kernel.lifecycle.trades import TradeEntry, Trades
from tests.folding import an_order


def test_assigning_to_a_fresh_copy_leaves_the_original() -> None:
    """The copy has the new value, the original the old one; an unknown field is an error."""
    record = Record("i")
    fresh = replace(record)
    assign_fresh(fresh, version=7)
    assert (fresh, record.version) == (Record("i", version=7), 0)
    with pytest.raises(AssertionError):
        assign_fresh(fresh, name="x")


def test_a_copy_does_not_keep_cached_properties() -> None:
    """A copy with another trade computes its own quantities; the original keeps its own."""
    facts = OrderFacts("o", ("c",), an_order(), 100, 10, 1, 1, 1)
    assert facts.quantities.cum_qty == 0
    traded = replace(facts, trades=Trades([TradeEntry("k", 5, 10, 1, None, None, None)]))
    assert (traded.quantities.cum_qty, facts.quantities.cum_qty) == (5, 0)
    assert traded == dataclasses.replace(facts, trades=traded.trades)
    with pytest.raises(AssertionError):
        replace(Record("i"), name="x")

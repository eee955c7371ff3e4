"""Values constructed and copied without validation equal those made the usual way."""

from __future__ import annotations

import dataclasses

import pytest

from kernel.lifecycle import Record
from kernel.lifecycle.immutable import assign_fresh, construct, copy_with, replace
from kernel.lifecycle.order_facts import OrderFacts
from kernel.lifecycle.trades import TradeEntry, Trades
from kernel.models import Attempt, AttemptKind, AttemptOutcome
from tests.folding import an_order

FIELDS = {name: field.default for name, field in Attempt.__pydantic_fields__.items()} | {
    "number": 1, "kind": AttemptKind.SUBMIT, "position": 7, "outcome": AttemptOutcome.PENDING, "client_order_id": "c",
}  # fmt: skip


def test_a_constructed_model_equals_a_validated_one() -> None:
    """It equals the validated model, and dumps, copies and hashes like it; a missing field is an error."""
    attempt, validated = construct(Attempt, **FIELDS), Attempt(**FIELDS)
    assert attempt == validated
    assert attempt.model_dump_json() == validated.model_dump_json()
    assert attempt.model_copy(update={"number": 2}) == validated.model_copy(update={"number": 2})
    assert attempt.model_fields_set == validated.model_fields_set
    with pytest.raises(AssertionError):
        construct(Attempt, number=1)


def test_a_copy_leaves_the_original_model() -> None:
    """The copy has the new value, the original the old one; an unknown field is an error."""
    attempt = Attempt(**FIELDS)
    copy = copy_with(attempt, text="no", outcome=AttemptOutcome.REJECTED)
    assert copy == attempt.model_copy(update={"text": "no", "outcome": AttemptOutcome.REJECTED})
    assert (attempt.text, attempt.outcome) == ("", AttemptOutcome.PENDING)
    with pytest.raises(AssertionError):
        copy_with(attempt, words="no")


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

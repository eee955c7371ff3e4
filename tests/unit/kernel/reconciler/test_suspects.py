"""Which external orders may be the order of an unknown submit, and what follows from that (H20)."""

from __future__ import annotations

from typing import Any

import pytest

from kernel.lifecycle.attribution import OrderRequest
from kernel.models import Attempt, AttemptKind, AttemptOutcome, ExternalOrder
from kernel.order_spec import Side, SymbolMetadata
from kernel.reconciler.attempt_resolution import ProvenAbsent, Suspected, conclude, next_query_ns
from kernel.reconciler.suspects import NAMED_MAX, is_suspect, suspects_text
from kernel.venues.base import Dedupe, ReadLag, VenueCapabilities

SYMBOL = SymbolMetadata(
    symbol_id="S", base_asset="X", quote_asset="Y", price_decimals=2, quantity_decimals=1, lot_size=5
)
REQUEST = OrderRequest("b1", "c1", 10, "S", Side.BUY, quantity=20, stamp_ns=1_000, valid_until_ns=2_000)
HIDING = VenueCapabilities(
    lookup=False,
    trades_carry_client_id=False,
    clock_skew_ns=100,
    read_lag=ReadLag(trades_ns=50),
    validity_window_ns=1_000,
)


def an_order(**fields: Any) -> ExternalOrder:
    known = {"exchange_order_id": "7", "symbol_id": "S", "side": Side.BUY, "quantity": 20, "first_position": 12}
    return ExternalOrder(**(known | fields))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"first_position": 9}, False),
        ({"first_position": 10}, True),
        ({"client_order_id": "theirs"}, False),
        ({"price": 1}, True),
        ({"quantity": 3}, True),
        ({"quantity": 25}, True),
        ({"quantity": 26}, False),
        ({"quantity": None, "cum_qty": 26}, False),
        ({"quantity": None}, True),
        ({"created_ns": 900}, True),
        ({"created_ns": 899}, False),
        ({"created_ns": 2_100}, True),
        ({"created_ns": 2_101}, False),
        ({"first_trade_ns": 900}, True),
        ({"first_trade_ns": 899}, False),
        ({"first_trade_ns": 9_000}, True),
    ],
)
def test_only_evidence_clears_a_suspect(fields: dict[str, Any], expected: bool) -> None:
    """The log's order, a client id, times outside the window and a quantity over a lot larger clear; nothing else does."""
    assert is_suspect(an_order(**fields), REQUEST, capabilities=HIDING, symbol=SYMBOL) is expected


@pytest.mark.parametrize(
    ("fields", "is_final", "expected"),
    [
        ({}, False, True),
        ({"first_seen_ns": 799}, False, False),
        ({"first_trade_ns": 2_101}, False, True),
        ({"first_trade_ns": 899}, False, False),
        ({"created_ns": 2_101}, False, False),
        ({}, True, False),
        ({"first_trade_ns": 2_100}, True, True),
        ({"first_trade_ns": 2_101}, True, False),
    ],
)
def test_what_clears_a_suspect_of_an_ended_stop(fields: dict[str, Any], is_final: bool, expected: bool) -> None:
    """What is older than the stop, and once lists have shown nothing all but a trade of before its end."""
    stop = REQUEST._replace(position=0, stop_id="5", is_final=is_final)
    order = an_order(**({"first_seen_ns": 1_000} | fields))
    assert is_suspect(order, stop, capabilities=HIDING, symbol=SYMBOL) is expected


def test_without_a_window_or_a_symbol_less_is_cleared() -> None:
    """A request that can be accepted at any time has no last creation; an unknown symbol has no lot."""
    endless = REQUEST._replace(valid_until_ns=None)
    assert is_suspect(an_order(created_ns=10**9), endless, capabilities=HIDING, symbol=SYMBOL)
    assert is_suspect(an_order(quantity=10**6), REQUEST, capabilities=HIDING, symbol=None)


def an_attempt(**fields: Any) -> Attempt:
    known = {
        "number": 1, "kind": AttemptKind.SUBMIT, "position": 10, "outcome": AttemptOutcome.UNKNOWN, "client_order_id": "c1",
        "stamp_ns": 1_000, "valid_until_ns": 2_000, "absent_after_ns": 2_151, "list_look_ended_ns": 3_000,
    }  # fmt: skip
    return Attempt(**(known | fields))


@pytest.mark.parametrize("suspected", [True, False])
def test_a_suspect_withholds_the_proof_of_absence(suspected: bool) -> None:
    """The two queries that prove absence prove nothing while there is a suspect, and the next one is spaced."""
    found = conclude(an_attempt(), HIDING, may_resend=True, began_ns=5_000, ended_ns=5_000, suspected=suspected)
    assert isinstance(found, Suspected if suspected else ProvenAbsent)
    if isinstance(found, Suspected):
        assert found.at_ns == 5_000 + 4_000 // 2 == next_query_ns(an_attempt(), HIDING, last_query_ns=5_000)


@pytest.mark.parametrize(
    ("fields", "hides", "proves"),
    [
        ({}, False, True),
        ({"lookup": False}, False, True),
        ({"lookup": False, "trades_carry_client_id": False}, True, True),
        ({"lookup_closed": False, "orders_carry_client_id": False}, True, True),
        ({"trades_carry_client_id": False}, False, True),
        ({"client_order_ids": False}, True, True),
        ({"lookup": False, "lists_trades": False}, False, False),
        ({"lists_trades": False, "lists_open_orders": False}, False, True),
        ({"client_order_ids": False, "lists_open_orders": False}, True, False),
    ],
)
def test_what_a_venue_shows(fields: dict[str, Any], hides: bool, proves: bool) -> None:
    """A lookup by client id needs client ids; absence needs that lookup or both lists."""
    known = VenueCapabilities(dedupe=Dedupe.FOR_EVER, **fields)
    assert (known.hides_client_ids, known.proves_absence) == (hides, proves)
    assert known.accepts_id_once is known.client_order_ids


def test_a_finding_names_a_few_in_decimals() -> None:
    """Quantities and prices are in the symbol's units, and a long list is cut."""
    assert suspects_text([an_order(price=1_050)], SYMBOL) == "7 (BUY 2.0 at 10.50)"
    many = suspects_text([an_order(exchange_order_id=str(number)) for number in range(NAMED_MAX + 2)], SYMBOL)
    assert many.endswith(" and 2 more")

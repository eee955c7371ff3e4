"""The exchange of one run: its symbols, limits and behaviour, and orders for it, from the plan.

Called by the world and the player.
"""

from __future__ import annotations

import random
from typing import Any

from kernel.clock import NS_PER_S
from kernel.order_spec import AssetMetadata, OcoMode, OrderType, Side, StandardOrder, SymbolMetadata, TimeInForce
from kernel.venues.base import AmendDialect, AmendQuantity, Dedupe, RateLimit, RateLimitKind, ReadLag, TriggerDialect
from kernel.venues.base import Operation as Counted
from kernel.venues.paper.matching.config import PaperConfig, TriggerReports
from tests.simulation.plan import PRICE, SYMBOLS, Plan

FUNDS = {
    "plenty": {"XS": 10**13, "XT": 10**10, "Y": 10**14},
    "scarce": {"XS": 3 * 10**7, "XT": 2 * 10**7, "Y": 4 * 10**9},  # for some ten orders at a time
}
"""The account's initial balances."""


def seconds(text: str) -> int:
    """Seconds as nanoseconds."""
    return round(float(text) * NS_PER_S)


def rate_limits(rate: str) -> tuple[RateLimit, ...]:
    """The exchange's limits: requests per second, or a weight of requests and a number of orders."""
    if rate == "none":
        return ()
    if rate != "weighed":
        return (RateLimit(kind=RateLimitKind.REQUEST_WEIGHT, window_ns=NS_PER_S, limit=int(rate)),)
    heavy = {Counted.SUBMIT: 1, Counted.AMEND: 1, Counted.CANCEL: 1, Counted.ORDER: 2, Counted.SNAPSHOT: 6}
    orders = {Counted.SUBMIT: 1, Counted.AMEND: 1}
    return (
        RateLimit(kind=RateLimitKind.REQUEST_WEIGHT, window_ns=3 * NS_PER_S, limit=30, weights=heavy),
        RateLimit(kind=RateLimitKind.ORDERS, window_ns=2 * NS_PER_S, limit=6, weights=orders),
    )


def triggers(plan: Plan) -> dict[str, Any]:
    """How the exchange reports stops that trigger."""
    if "triggers" not in plan.world.get("venue", ""):
        return {}
    chance = random.Random(f"{plan.seed}/triggers")
    return {
        "trigger": TriggerDialect.NEW_ORDER,
        "trigger_reports": chance.choice([*TriggerReports]),
        "trigger_parent_stays_listed": chance.random() < 0.3,
    }


def paper_config(plan: Plan) -> PaperConfig:
    """The configuration of the exchange."""
    world = plan.world
    stops = triggers(plan)
    lag_ns, lagging = seconds(world["lag"]), world["lagging"]
    amend, _, manner = world["amend"].partition("/")
    lags = {f"{name}_ns": lag_ns for name in ("order", "open_orders", "trades") if lagging in ("all", name)}
    return PaperConfig(
        **stops,
        symbols=tuple(symbol(name, stops=bool(stops)) for name in SYMBOLS),
        assets=tuple(AssetMetadata(asset_id=name, decimals=8) for name in ("XS", "XT", "Y")),
        balances=dict(FUNDS[world["funds"]]),
        last_prices=dict.fromkeys(SYMBOLS, PRICE),
        dedupe=Dedupe(world["dedupe"]),
        amend=AmendDialect(amend),
        amend_quantity=AmendQuantity.REMAINING if manner == "REMAINING" else AmendQuantity.TOTAL,
        amend_atomic=manner != "loose",
        dedupe_for_ns=seconds(world["dedupe-for"]) or None,
        validity_window_ns=None if world["window"] == "none" else seconds(world["window"]),
        clock_skew_ns=seconds(world["skew"]),
        lookup=world["lookup"] != "no",
        lookup_closed=world["lookup"] == "closed",
        cancel_reports_cum_qty=world["cancel-total"] == "yes",
        read_lag=ReadLag(**lags),
        rate_limits=rate_limits(world["rate"].removesuffix("/told")),
        request_latency_ns=seconds(world["latency"]),
        answer_latency_ns=seconds(world["latency"]),
        native_groups=frozenset(OcoMode) - {OcoMode.NONE} if world.get("groups") == "venue" else frozenset(),
        maker_fee_bps=int(world.get("fees", "10")),
        taker_fee_bps=int(world.get("fees", "10")),
        ladder_levels=3,
        first_id=1,
    )


def symbol(name: str, *, stops: bool) -> SymbolMetadata:
    """A market of small numbers."""
    stop_types = {OrderType.STOP} if stops else set()
    return SymbolMetadata(
        symbol_id=name,
        base_asset=f"X{name}",
        quote_asset="Y",
        price_decimals=2,
        quantity_decimals=2,
        tick_size=1,
        lot_size=1,
        min_price=1,
        max_price=100_000_000,
        min_quantity=1,
        max_quantity=1_000_000,
        order_types=frozenset({OrderType.LIMIT, OrderType.MARKET, *stop_types}),
        times_in_force=frozenset({TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK}),
        max_open_orders=40,
    )


def order_of(symbol_id: str, side: str, quantity: str, *more: str) -> StandardOrder:
    """An order from the fields of a plan."""
    price = next((int(word[1:]) for word in more if word.startswith("@")), None)
    stop_price = next((int(word[5:]) for word in more if word.startswith("stop@")), None)
    market = "MARKET" in more
    plain = OrderType.MARKET if market else OrderType.LIMIT
    return StandardOrder(
        symbol_id=symbol_id,
        side=Side(side),
        order_type=plain if stop_price is None else OrderType.STOP,
        stop_price=stop_price,
        quantity=int(quantity),
        price=None if market else price,
        time_in_force=next((TimeInForce(word) for word in more if word in ("IOC", "FOK")), TimeInForce.GTC),
        post_only="post" in more and not market,
    )

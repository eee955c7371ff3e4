"""Configuration of a paper exchange: symbols, account, fees, latency, and the capabilities derived from them."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from os import PathLike
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import pydantic
from msgspec import structs
from pydantic import Field

from kernel.clock import NS_PER_S
from kernel.order_spec import (
    AssetId,
    AssetMetadata,
    Counter,
    InstantNs,
    Int,
    OcoMode,
    OrderType,
    SymbolId,
    SymbolMetadata,
    TimeInForce,
    Uint64,
)
from kernel.safety.limit_settings import Model
from kernel.values import as_json
from kernel.venues.base import (
    AmendDialect,
    AmendQuantity,
    Dedupe,
    RateLimit,
    ReadLag,
    TriggerDialect,
    VenueCapabilities,
)

QUANTITY_ONE = 10**8
"""One coin at the quantity scale of the built-in symbols."""


def built_in_symbols() -> tuple[SymbolMetadata, ...]:
    """Return BTCUSDT and ETHUSDT with Binance's public spot filters; prices at 2 decimals, quantities at 8."""
    return (_spot("BTC", lot_size=1_000, max_coins=9_000), _spot("ETH", lot_size=10_000, max_coins=9_000))


def full_symbols() -> tuple[SymbolMetadata, ...]:
    """Return the built-in symbols with every order type and time in force, reduce-only and iceberg orders."""
    everything = {
        "order_types": frozenset(OrderType),
        "times_in_force": frozenset(TimeInForce),
        "reduce_only": True,
        "iceberg": True,
    }
    return tuple(structs.replace(symbol, **everything) for symbol in built_in_symbols())


def built_in_assets() -> tuple[AssetMetadata, ...]:
    names = {"BTC": "Bitcoin", "ETH": "Ether", "USDT": "Tether USD"}
    return tuple(AssetMetadata(asset_id=asset_id, decimals=8, name=name) for asset_id, name in names.items())


def _spot(base: str, *, lot_size: int, max_coins: int) -> SymbolMetadata:
    return SymbolMetadata(
        symbol_id=f"{base}USDT",
        base_asset=base,
        quote_asset="USDT",
        price_decimals=2,
        quantity_decimals=8,
        tick_size=1,
        lot_size=lot_size,
        min_price=1,
        max_price=100_000_000,
        min_quantity=lot_size,
        max_quantity=max_coins * QUANTITY_ONE,
        min_notional=5 * 10**10,
        max_notional=9_000_000 * 10**10,
        order_types=frozenset({OrderType.LIMIT, OrderType.MARKET}),
        times_in_force=frozenset({TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK}),
        max_open_orders=200,
    )


class TriggerReports(StrEnum):
    """How the exchange reports a stop that triggers as a new order."""

    EXPIRED = "EXPIRED"
    """The stop is TRIGGERED, then EXPIRED, then the new order is NEW."""
    CANCELED = "CANCELED"
    """The stop is TRIGGERED, then CANCELED, then the new order is NEW."""
    TRIGGERED = "TRIGGERED"
    """The stop is TRIGGERED and the new order is NEW; the end of the stop is not reported."""
    REPLACED = "REPLACED"
    """The stop is TRIGGERED and the new order REPLACED, under the same client order id."""
    NEW = "NEW"
    """Only the new order is reported, without its type."""
    FILLED = "FILLED"
    """As TRIGGERED; each fill of the new order is then also reported as the stop's total."""


class PaperConfig(Model):
    """The exchange's behavior; the defaults are those of a Binance spot account without delays."""

    symbols: tuple[SymbolMetadata, ...] = Field(default_factory=built_in_symbols)
    """Tradable symbols; the string `full` stands for `full_symbols()`."""
    assets: tuple[AssetMetadata, ...] = Field(default_factory=built_in_assets)
    balances: dict[AssetId, Int] = Field(
        default_factory=lambda: {"USDT": 1_000_000 * 10**8, "BTC": 100 * 10**8, "ETH": 1_000 * 10**8}
    )
    """Opening balances of the account, at each asset's scale."""
    last_prices: dict[SymbolId, Uint64] = Field(default_factory=lambda: {"BTCUSDT": 6_180_000, "ETHUSDT": 265_000})
    """Last trade price before the tape's first trade, at the price scale. A supplied tape sets its first price instead."""
    maker_fee_bps: Counter = 10
    """Fee of a maker fill, in 1/10,000 of the received amount."""
    taker_fee_bps: Counter = 10
    """Fee of a taker fill, in 1/10,000 of the received amount."""
    dedupe: Dedupe = Dedupe.WHILE_OPEN
    dedupe_for_ns: InstantNs | None = None
    """Also refuse an id for this long after its first use; None for no such period."""
    validity_window_ns: InstantNs | None = 5 * NS_PER_S
    """Refuse a request later than this after its stamp; None for no window."""
    clock_skew_ns: InstantNs = 0
    """Clock difference that a client must assume."""
    lookup: bool = True
    """Orders can be queried by client order id."""
    lookup_closed: bool = True
    """The query also returns closed orders."""
    cancel_reports_cum_qty: bool = True
    """The report of a cancel carries CumQty and LeavesQty."""
    read_lag: ReadLag = ReadLag()
    """Age of the state that each query shows."""
    rate_limits: tuple[RateLimit, ...] = ()
    """Limits on all clients together."""
    request_latency_ns: InstantNs = 0
    """Delay before the engine receives a request."""
    answer_latency_ns: InstantNs = 0
    """Delay before the client receives an answer."""
    amend: AmendDialect = AmendDialect.NONE
    amend_quantity: AmendQuantity = AmendQuantity.TOTAL
    amend_atomic: bool = True
    """A cancel/replace whose new order is refused leaves the old one working."""
    replace_keeps_cum_qty: bool = False
    """Reports of an order that replaced another include what that one filled in quantity and CumQty (FIX)."""
    trigger: TriggerDialect = TriggerDialect.SAME_ORDER
    """A stop that triggers goes on itself, or a new order with its client order id takes its place."""
    trigger_reports: TriggerReports = TriggerReports.EXPIRED
    """With NEW_ORDER: the reports of a trigger."""
    trigger_parent_stays_listed: bool = False
    """With NEW_ORDER: a stop is listed as open while the order that its trigger made is."""
    native_groups: frozenset[OcoMode] = frozenset()
    """Group modes that the exchange manages itself."""
    halt_retry_after_s: Annotated[float, Field(gt=0)] = 1.0
    """Retry delay that a refusal in a halted symbol names, in seconds."""
    ladder_levels: Counter = 20
    """Levels of synthetic depth on each side of the last price; 0: takers meet other accounts' orders only."""
    first_id: Counter | None = None
    """First order, trade and report id. None: 1 with a journal, otherwise the clock's milliseconds: ids must be unique in
    the account forever, and an exchange without a journal forgets those it used.
    """

    @pydantic.field_validator("symbols", mode="before")
    @classmethod
    def _named(cls, symbols: Any) -> Any:
        return as_json(full_symbols()) if symbols == "full" else symbols

    @pydantic.field_serializer("native_groups")
    def _sorted(self, values: frozenset[OcoMode]) -> list[str]:
        return sorted(values)

    def capabilities(self) -> VenueCapabilities:
        """Return the capabilities that the port declares."""
        shared = PaperConfig.model_fields.keys() & VenueCapabilities.__struct_fields__
        return VenueCapabilities(
            **{name: getattr(self, name) for name in shared},
            tells_time=True,
            order_types=frozenset[OrderType]().union(*(symbol.order_types for symbol in self.symbols)),
            times_in_force=frozenset[TimeInForce]().union(*(symbol.times_in_force for symbol in self.symbols)),
        )


class TapeTrade(NamedTuple):
    """A trade of the market, in integers at its symbol's scales."""

    trade_id: int
    """The market's id of the trade."""
    price: int
    quantity: int
    time_ns: int
    """Unix nanoseconds."""
    buyer_is_maker: bool
    """The seller took liquidity."""


Speed = float | Literal["max", "step"]
"""1 for the tape's own pace, N for N times faster, `max` for as fast as possible, `step` for trade by trade on demand."""
TapeSource = str | PathLike[str] | Iterable[TapeTrade] | None
"""A file, a collection of trades, or None for the shipped tape."""


class PaperExchangeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one paper exchange."""

    tape: TapeSource = None
    """The shipped tape restarts when it ends, unless played at `max`; after the end of others the market is still."""
    symbol: str | None = None
    """The tape's symbol; None: from the file name (`BTCUSDT-trades-….csv`)."""
    seed: int = 0
    """Seed of the synthetic depth and of partial snapshots."""
    speed: Speed = 1
    config: PaperConfig = msgspec.field(default_factory=PaperConfig)
    journal: str | PathLike[str] | None = None
    """The exchange's durable file; None: in memory only. It does not contain the tape: after a restart the market
    starts again with the tape's first trade.
    """

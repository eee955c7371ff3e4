"""What a paper exchange is like: its market, its rules for requests, its account, its delays.

Built by whoever makes a paper exchange (`PaperVenue`, the exchange process, tests) and read by the engine. Capabilities
are derived from it, so that what is declared is what is done. Holds values only; does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from os import PathLike
from typing import Annotated, Any, Literal, NamedTuple

import pydantic
from pydantic import Field

from kernel.clock import NS_PER_S
from kernel.order_spec import (
    AssetId,
    AssetMetadata,
    Counter,
    InstantNs,
    Int,
    Model,
    OcoMode,
    OrderType,
    SymbolId,
    SymbolMetadata,
    TimeInForce,
    Uint64,
)
from kernel.venues.base import AmendDialect, AmendQuantity, Dedupe, RateLimit, ReadLag, VenueCapabilities

QUANTITY_ONE = 10**8
"""One whole coin at the quantity scale of the built-in symbols."""


def built_in_symbols() -> tuple[SymbolMetadata, ...]:
    """BTCUSDT and ETHUSDT with Binance's public spot filters; prices at 2 decimals, quantities at 8."""
    return (_spot("BTC", lot_size=1_000, max_coins=9_000), _spot("ETH", lot_size=10_000, max_coins=9_000))


def full_symbols() -> tuple[SymbolMetadata, ...]:
    """The built-in symbols with every order type, time in force, reduce-only and iceberg orders."""
    everything = {
        "order_types": frozenset(OrderType),
        "times_in_force": frozenset(TimeInForce),
        "reduce_only": True,
        "iceberg": True,
    }
    return tuple(symbol.model_copy(update=everything) for symbol in built_in_symbols())


def built_in_assets() -> tuple[AssetMetadata, ...]:
    """BTC, ETH and USDT, each counted at 8 decimals."""
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


class PaperConfig(Model):
    """How the exchange behaves. The defaults are those of a Binance spot account without delays."""

    symbols: tuple[SymbolMetadata, ...] = Field(default_factory=built_in_symbols)
    """What can be traded, and with which kinds of order; the word `full` is for `full_symbols()`."""
    assets: tuple[AssetMetadata, ...] = Field(default_factory=built_in_assets)
    """What an account can hold."""
    balances: dict[AssetId, Int] = Field(
        default_factory=lambda: {"USDT": 1_000_000 * 10**8, "BTC": 100 * 10**8, "ETH": 1_000 * 10**8}
    )
    """What the account starts with, at each asset's scale."""
    last_prices: dict[SymbolId, Uint64] = Field(default_factory=lambda: {"BTCUSDT": 6_180_000, "ETHUSDT": 265_000})
    """The last trade price before the tape's first trade, at the price scale; the ladder stands around it. A tape that is
    given brings its own first price."""
    maker_fee_bps: Counter = 10
    """Fee of a fill that added liquidity, in 1/10,000 of what is received."""
    taker_fee_bps: Counter = 10
    """Fee of a fill that took liquidity, in 1/10,000 of what is received."""
    dedupe: Dedupe = Dedupe.WHILE_OPEN
    """How long a client order id that was used is refused."""
    dedupe_for_ns: InstantNs | None = None
    """Refuse an id for this long after its first use too; none: only as `dedupe` says."""
    validity_window_ns: InstantNs | None = 5 * NS_PER_S
    """A request is refused later than this after its stamp; none: a request is taken whenever it arrives."""
    clock_skew_ns: InstantNs = 0
    """How far a client must assume the clocks to be apart."""
    lookup: bool = True
    """Whether an order can be looked up by client order id."""
    lookup_closed: bool = True
    """Whether that also returns closed orders."""
    cancel_reports_cum_qty: bool = True
    """Whether the report of a cancel tells CumQty and LeavesQty."""
    read_lag: ReadLag = ReadLag()
    """How old the state is that each query shows."""
    rate_limits: tuple[RateLimit, ...] = ()
    """How much is taken in any window, by weight, of all clients together; none: any number of requests."""
    request_latency_ns: InstantNs = 0
    """How long a request travels before the engine has it."""
    answer_latency_ns: InstantNs = 0
    """How long an answer travels."""
    amend: AmendDialect = AmendDialect.NONE
    """How a working order is changed."""
    amend_quantity: AmendQuantity = AmendQuantity.TOTAL
    """What the quantity in an amend means."""
    amend_atomic: bool = True
    """Whether a cancel-replace whose new order is refused leaves the old one working."""
    native_groups: frozenset[OcoMode] = frozenset()
    """Which group modes the exchange works by itself."""
    halt_retry_after_s: Annotated[float, Field(gt=0)] = 1.0
    """What a refusal in a halted symbol says of when to try again, in seconds."""
    ladder_levels: Counter = 20
    """Levels of the seeded ladder on each side of the last trade price; 0: takers meet other accounts' orders only."""
    first_id: Counter | None = None
    """First order, trade and report id. None: 1 with a journal, else the clock's milliseconds, because ids must be unique
    in the account for ever and an exchange without a journal forgets which it gave."""

    @pydantic.field_validator("symbols", mode="before")
    @classmethod
    def _named(cls, symbols: Any) -> Any:
        return full_symbols() if symbols == "full" else symbols

    @pydantic.field_serializer("native_groups")
    def _sorted(self, values: frozenset[OcoMode]) -> list[str]:
        return sorted(values)

    def capabilities(self) -> VenueCapabilities:
        """What the exchange can, as the port declares it."""
        return VenueCapabilities(
            amend=self.amend,
            amend_quantity=self.amend_quantity,
            amend_atomic=self.amend_atomic,
            native_groups=self.native_groups,
            lookup=self.lookup,
            lookup_closed=self.lookup_closed,
            dedupe=self.dedupe,
            dedupe_for_ns=self.dedupe_for_ns,
            validity_window_ns=self.validity_window_ns,
            clock_skew_ns=self.clock_skew_ns,
            read_lag=self.read_lag,
            cancel_reports_cum_qty=self.cancel_reports_cum_qty,
            order_types=frozenset[OrderType]().union(*(symbol.order_types for symbol in self.symbols)),
            times_in_force=frozenset[TimeInForce]().union(*(symbol.times_in_force for symbol in self.symbols)),
            rate_limits=self.rate_limits,
        )


class TapeTrade(NamedTuple):
    """One trade of the market, in integers at its symbol's scales."""

    trade_id: int
    """The market's id of it."""
    price: int
    """At the price scale."""
    quantity: int
    """At the quantity scale."""
    time_ns: int
    """When it happened, Unix nanoseconds."""
    buyer_is_maker: bool
    """Whether the seller was the one who took liquidity."""


Speed = float | Literal["max", "step"]
"""How the tape is played: 1 at its own pace, N times faster, as fast as it can be read, or trade by trade on demand."""
TapeSource = str | PathLike[str] | Iterable[TapeTrade] | None
"""A file, trades at hand, or none for the tape that comes with the project."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperExchangeOptions:
    """Everything that makes one paper exchange."""

    tape: TapeSource = None
    """The trades to play; none for the tape that comes with the project."""
    symbol: str | None = None
    """The tape's symbol; none: from the file's name (`BTCUSDT-trades-….csv`)."""
    seed: int = 0
    """Seed of the ladder and of what partial snapshots leave out."""
    speed: Speed = 1
    """How the tape is played."""
    loop: bool | None = None
    """Whether the tape begins again, shifted in time, when it ends. None: the project's own tape does, others end. A tape
    played at `max` ends whatever this says; after its end the market stands still at the last price."""
    config: PaperConfig = field(default_factory=PaperConfig)
    """How the exchange behaves."""
    journal: str | PathLike[str] | None = None
    """The file that outlives the exchange; none: it forgets everything with its process. The tape is not in it: after a
    restart the market begins again with the tape's first trade."""

"""The changes that one request causes, decided on top of the book before they are committed.

The engine starts a transaction for each event, lets `amend` and `contingent` add to it, and commits it as a whole or
drops it; the book stays unchanged meanwhile. So everything that one trade causes (siblings canceled, orders released,
stops triggered) is one line of the journal and one instant for every reader.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from msgspec.structs import replace

from kernel.clock import NS_PER_S, Clock
from kernel.models import ExecType, Liquidity, OrdStatus
from kernel.order_spec import OcoMode, OrderType, Side, StandardOrder, TimeInForce
from kernel.venues.base import TriggerDialect
from kernel.venues.paper.matching import changes
from kernel.venues.paper.matching.book import PaperBook, unit_of
from kernel.venues.paper.matching.config import PaperConfig, TriggerReports
from kernel.venues.paper.matching.market import PaperMarket
from kernel.venues.paper.matching.matching_rules import (
    Ending,
    Execution,
    Incoming,
    Level,
    Match,
    Resting,
    fee_of,
    match,
)
from kernel.venues.paper.matching.orders import PaperOrder, after, opened, terms_of

NS_PER_DAY = 86_400 * NS_PER_S
NO_FUNDS = "Account has insufficient balance for requested action."
WOULD_TAKE = "Order would immediately match and take."
WOULD_INCREASE = "ReduceOnly Order is rejected."
POSITION_REDUCED = "ReduceOnly: the position was reduced."


class Membership(NamedTuple):
    """An order's membership in a group."""

    group_id: int | None = None
    group_client_id: str | None = None
    group_mode: OcoMode = OcoMode.NONE
    leads: bool = False


@dataclass(slots=True)
class IdSequence:
    """The next ids and the last instant of the exchange; all strictly increase."""

    clock: Clock
    order: int
    trade: int
    exec: int
    last_ns: int
    ratchet_ns: int = 0
    """Most that an instant was ahead of the clock."""

    def copy(self) -> IdSequence:
        return IdSequence(self.clock, self.order, self.trade, self.exec, self.last_ns, self.ratchet_ns)

    def tick(self) -> int:
        """Return the next instant: the clock's, or one later than the last."""
        now_ns = self.clock.now_ns()
        self.last_ns = max(now_ns, self.last_ns + 1)
        self.ratchet_ns = max(self.ratchet_ns, self.last_ns - now_ns)
        return self.last_ns

    def order_id(self) -> int:
        self.order += 1
        return self.order - 1

    def trade_id(self) -> int:
        self.trade += 1
        return self.trade - 1

    def exec_id(self) -> int:
        self.exec += 1
        return self.exec - 1


class DepthTaken(NamedTuple):
    symbol_id: str
    taker: Side
    price: int
    quantity: int


class Transaction:
    """Changes that are being decided, on top of the book."""

    def __init__(
        self, book: PaperBook, *, config: PaperConfig, markets: Mapping[str, PaperMarket], sequence: IdSequence
    ) -> None:
        self.book = book
        self.sequence = sequence.copy()
        """Replaces the engine's on commit."""
        self.changes: list[changes.JournalEntry] = []
        self.taken: list[DepthTaken] = []
        self.due: deque[tuple[int, int]] = deque()
        """Members of groups that traded (quantity) or ended (0), to which their groups have not reacted yet."""
        self.moved: set[str] = set()
        """Symbols whose position changed, to which reduce-only orders have not reacted yet."""
        self.config = config
        self._markets = markets
        self._orders: dict[int, PaperOrder] = {}
        self._members: dict[int, list[int]] = {}

    def order(self, order_id: int) -> PaperOrder:
        return self._orders.get(order_id) or self.book.current(order_id)

    def members(self, group_id: int | None) -> list[PaperOrder]:
        if group_id is None:
            return []
        return [self.order(each) for each in (*self.book.members(group_id), *self._members.get(group_id, ()))]

    def last_price(self, symbol_id: str) -> int:
        return self._markets[symbol_id].last_price

    def own_open(self, symbol_id: str) -> list[PaperOrder]:
        """Return the client's open orders of a symbol, oldest first."""
        order_ids = {order.order_id for order in self.book.own_open()} | self._orders.keys()
        orders = [self.order(order_id) for order_id in sorted(order_ids)]
        return [order for order in orders if order.own and order.open and order.symbol_id == symbol_id]

    def resting(self, symbol_id: str, side: Side, *, but_account: str | None = None) -> Iterator[Resting]:
        """Yield a side's orders in price-time priority as of this transaction, except those of one account."""
        for resting in self._resting(symbol_id, side, but_account=but_account):
            order = self.order(resting.order_id)
            reduces = order.own and order.reduce_only
            yield replace(resting, reducible=self.reducible(order)) if reduces else resting

    def _resting(self, symbol_id: str, side: Side, *, but_account: str | None) -> Iterator[Resting]:
        touched = [each for each in self._orders.values() if (each.symbol_id, each.side) == (symbol_id, side)]
        if not touched:
            yield from self.book.resting(symbol_id, side, but_account=but_account)
            return
        places = [place for place in self.book.places(symbol_id, side) if place[-1] not in self._orders]
        for *_, order_id in sorted([*places, *(each.place for each in touched if each.rests)]):
            order = self.order(order_id)
            if order.account != but_account:
                yield order.resting

    def match(self, order: PaperOrder) -> Match:
        incoming = Incoming(
            order.side,
            order.leaves_qty,
            limit=order.price,
            time_in_force=TimeInForce.IOC if order.price is None else order.time_in_force,
            post_only=order.post_only,
        )
        resting = self.resting(order.symbol_id, other(order.side), but_account=order.account)
        return match(incoming, resting, self._offers(order) if order.own else ())

    def free(self, asset_id: str) -> int:
        found = self.book.free(asset_id)
        for change in self.changes:
            if isinstance(change, changes.Traded) and change.fee_asset == asset_id and self.order(change.order_id).own:
                found -= change.fee
        units = {}
        for order in self._orders.values():
            if order.own:
                units[unit_of(order)] = order
                before = self.book.order(order.order_id)
                if before is None and order.cum_qty:
                    before = replace(order, cum_qty=0, cum_notional=0)
                found += self.book.balance_changes(before, order).get(asset_id, 0)
        for unit, order in units.items():
            mates = [order] if order.linked is None else [m for m in self.members(order.linked) if not m.leads]
            found += self.book.held_by_unit(unit).get(asset_id, 0) - self.book.held(mates).get(asset_id, 0)
        return found

    def free_quote(self, order: PaperOrder) -> int:
        return self.free(self.book.symbols[order.symbol_id].quote_asset)

    def position(self, symbol_id: str) -> int:
        found = self.book.position(symbol_id)
        for order in self._orders.values():
            if order.own and order.symbol_id == symbol_id:
                before = self.book.order(order.order_id)
                filled = order.cum_qty - (before.cum_qty if before else 0)
                found += filled if order.side is Side.BUY else -filled
        return found

    def reducible(self, order: PaperOrder) -> int:
        """Return the quantity by which an order can reduce the position."""
        position = self.position(order.symbol_id)
        return max(-position if order.side is Side.BUY else position, 0)

    def exceeds_position(self, order: PaperOrder) -> bool:
        """Return whether a reduce-only order could trade more than the position."""
        return order.reduce_only and order.leaves_qty > self.reducible(order)

    def lacks_funds(self, order: PaperOrder) -> bool:
        return any(self.free(asset_id) < 0 for asset_id in self.book.held([order]))

    def open(
        self,
        order: StandardOrder,
        *,
        client_order_id: str,
        account: str = changes.OWN,
        orig_client_order_id: str | None = None,
        membership: Membership | None = None,
        waits: bool = False,
        asked: int | None = None,
        **fields: Any,
    ) -> PaperOrder:
        """Accept an order; `fields` are further fields of `Opened`. It trades only when it enters."""
        order_id = self.sequence.order_id()
        change = changes.Opened(
            **self.stamp(),
            order_id=order_id,
            account=account,
            client_order_id=client_order_id,
            expires_ns=self.expires_ns(order),
            ahead=self._ahead(order.symbol_id, order.price, own=account == changes.OWN and not waits),
            orig_client_order_id=orig_client_order_id,
            waits=waits,
            asked=asked,
            **terms_of(order),
            **(membership or Membership())._asdict(),
            **fields,
        )
        self.changes.append(change)
        self._orders[order_id] = opened(change)
        if change.group_id is not None:
            self._members.setdefault(change.group_id, []).append(order_id)
        return self._orders[order_id]

    def expires_ns(self, order: StandardOrder) -> int | None:
        """Return when an order expires; a DAY order at the next midnight UTC."""
        if order.time_in_force is TimeInForce.DAY:
            return (self.sequence.clock.now_ns() // NS_PER_DAY + 1) * NS_PER_DAY
        return order.expire_at_ns

    def enter(self, order_id: int, matched: Match | None = None) -> None:
        """Match and execute an order; its remainder rests or expires. A stop order waits for its price first."""
        order = self.order(order_id)
        if order.armed:
            if order.reached_by(self.last_price(order.symbol_id)):
                self.trigger(order_id)
            return
        if order.leaves_qty == 0:
            return  # a child whose siblings have used up its share
        matched = matched or self.match(order)
        if matched.ending is Ending.REFUSED:
            self.close(order_id, OrdStatus.CANCELED, text=WOULD_TAKE)
        elif order.own and order.price is None and self.cost(order, matched) > self.free_quote(order):
            self.close(order_id, OrdStatus.EXPIRED, text=NO_FUNDS)
        else:
            self.execute(matched, taker=order)
            if matched.ending is Ending.EXPIRED:
                self.close(order_id, OrdStatus.EXPIRED)

    def cost(self, order: PaperOrder, matched: Match) -> int:
        """Return what a market buy order pays for its match."""
        if order.side is Side.SELL:
            return 0
        notional = sum(execution.price * execution.quantity for execution in matched.executions)
        return self.book.quote_amount(self.book.symbols[order.symbol_id], notional, up=True)

    def trigger(self, order_id: int) -> None:
        """Turn a stop order into a MARKET or LIMIT order, or replace it by one, and enter that."""
        order = self.order(order_id)
        if order.own and self.config.trigger is TriggerDialect.NEW_ORDER:
            order = self._succeed(order)
        else:
            ahead = self._ahead(order.symbol_id, order.price, own=order.own)
            order = self._add(changes.Triggered(**self.stamp(), order_id=order_id, ahead=ahead))
        if order.own and self.exceeds_position(order):
            self.close(order.order_id, OrdStatus.CANCELED, text=WOULD_INCREASE)
        else:
            self.enter(order.order_id)

    def _succeed(self, stop: PaperOrder) -> PaperOrder:
        """End a stop and open the order that its trigger makes."""
        told = self.config.trigger_reports
        if told is not TriggerReports.NEW:
            self._add(changes.Triggered(**self.stamp(), order_id=stop.order_id))
        ended = OrdStatus.CANCELED if told is TriggerReports.CANCELED else OrdStatus.EXPIRED
        is_reported = told in (TriggerReports.CANCELED, TriggerReports.EXPIRED)
        self._add(
            changes.Closed(
                **self.stamp(), order_id=stop.order_id, status=ended, text="triggered", is_reported=is_reported
            )
        )
        order_type = OrderType.MARKET if stop.price is None else OrderType.LIMIT
        terms = terms_of(stop) | {"order_type": order_type, "stop_price": None, "quantity": stop.leaves_qty}
        replaces = told is TriggerReports.REPLACED
        return self.open(
            StandardOrder(**terms, expire_at_ns=stop.expires_ns),
            client_order_id=stop.client_order_id,
            orig_client_order_id=stop.client_order_id if replaces else None,
            membership=Membership(stop.group_id, stop.group_client_id, stop.group_mode, stop.leads),
            asked=stop.asked,
            stop_id=stop.order_id,
            reported_as=ExecType.REPLACED if replaces else ExecType.NEW,
            has_type=told is not TriggerReports.NEW,
        )

    def release(self, order: PaperOrder, *, quantity: int, grows: bool) -> PaperOrder:
        """Activate a pending order of a group. It trades only when it enters."""
        ahead = self._ahead(order.symbol_id, order.price, own=order.own)
        change = changes.Released(**self.stamp(), order_id=order.order_id, quantity=quantity, ahead=ahead, grows=grows)
        return self._add(change)

    def amend(self, order: PaperOrder, *, quantity: int, request_id: str | None = None, **terms: Any) -> PaperOrder:
        """Change an order's terms; it keeps its place unless it grows or changes its price. It trades when it enters."""
        now: dict[str, Any] = {name: getattr(order, name) for name in ("price", "stop_price", "display_quantity")}
        now |= {"expires_ns": order.expires_ns, "asked": order.asked, "grows": order.grows} | terms
        keeps_place = quantity <= order.quantity and now["price"] == order.price
        change = changes.Amended(
            **self.stamp(),
            order_id=order.order_id,
            request_id=request_id,
            orig_client_order_id=None if request_id is None else order.client_order_id,
            quantity=quantity,
            keeps_place=keeps_place,
            ahead=order.ahead if keeps_place else self._ahead(order.symbol_id, now["price"], own=order.own),
            **now,
        )
        return self._add(change)

    def close(
        self,
        order_id: int,
        status: OrdStatus,
        *,
        request_id: str | None = None,
        bare: bool = False,
        text: str | None = None,
    ) -> changes.Closed:
        """End an order with an open quantity."""
        bare = request_id is not None and (bare or not self.config.cancel_reports_cum_qty)
        change = changes.Closed(
            **self.stamp(), order_id=order_id, status=status, request_id=request_id, bare=bare, text=text
        )
        order = self._add(change)
        if order.group_id is not None:
            self.due.append((order_id, 0))
        return change

    def execute(self, matched: Match, *, taker: PaperOrder | None = None) -> None:
        """Execute a match, both sides of each trade under one trade id; without a taker it is a trade of the tape."""
        for order_id, ahead in matched.ahead.items():
            self.changes.append(changes.AheadChanged(order_id=order_id, ahead=ahead))
            self._orders[order_id] = replace(self.order(order_id), ahead=ahead)
        for execution in matched.executions:
            trade_id = self.sequence.trade_id()
            if taker is not None:
                self._trade(taker.order_id, execution, trade_id=trade_id, liquidity=Liquidity.TAKER)
            if execution.order_id is not None:
                self._trade(execution.order_id, execution, trade_id=trade_id, liquidity=Liquidity.MAKER)
            elif taker is not None:
                self.taken.append(DepthTaken(taker.symbol_id, taker.side, execution.price, execution.quantity))

    def note(self, change: changes.JournalEntry) -> None:
        """Add a change that affects no order of this transaction."""
        self.changes.append(change)

    def stamp(self) -> dict[str, Any]:
        """Return the instant and the report id of the next change."""
        return {"at_ns": self.sequence.tick(), "exec_id": self.sequence.exec_id()}

    def _trade(self, order_id: int, execution: Execution, *, trade_id: int, liquidity: Liquidity) -> None:
        order = self.order(order_id)
        fee, fee_asset = fee_on(self.book, self.config, order, execution, liquidity)
        used_up = order.display_quantity and order.shown <= execution.quantity < order.leaves_qty
        change = changes.Traded(
            **self.stamp(),
            order_id=order_id,
            trade_id=trade_id,
            price=execution.price,
            quantity=execution.quantity,
            liquidity=liquidity,
            fee=fee if order.own else 0,
            fee_asset=fee_asset,
            ahead=self._ahead(order.symbol_id, order.price, own=order.own) if used_up else None,
        )
        traded = self._add(change)
        if order.stop_id is not None and self.config.trigger_reports is TriggerReports.FILLED:
            self._add(changes.Mirrored(**self.stamp(), order_id=order.stop_id, cum_qty=traded.cum_qty))
        if order.own:
            self.moved.add(order.symbol_id)
        if order.group_id is not None:
            self.due.append((order_id, execution.quantity))

    def _add(self, change: changes.OrderChange) -> PaperOrder:
        self.changes.append(change)
        order = self._orders[change.order_id] = after(self.order(change.order_id), change)
        return order

    def _ahead(self, symbol_id: str, price: int | None, *, own: bool) -> int:
        """Return the market's quantity ahead of an order that arrives at a price now; none for other accounts."""
        return self._markets[symbol_id].volume_at(price) if own and price is not None else 0

    def _offers(self, order: PaperOrder) -> Sequence[Level]:
        """Return the synthetic depth that is left."""
        levels = self._markets[order.symbol_id].offers(order.side)
        if not self.taken:
            return levels
        gone: dict[int, int] = {}
        for taken in self.taken:
            if (taken.symbol_id, taken.taker) == (order.symbol_id, order.side):
                gone[taken.price] = gone.get(taken.price, 0) + taken.quantity
        left = [Level(level.price, level.quantity - gone.get(level.price, 0)) for level in levels]
        return [level for level in left if level.quantity > 0]


def fee_on(
    book: PaperBook, config: PaperConfig, order: PaperOrder, execution: Execution, liquidity: Liquidity
) -> tuple[int, str]:
    """Return the fee and its asset: a share of what is received, as on Binance."""
    symbol = book.symbols[order.symbol_id]
    bps = config.taker_fee_bps if liquidity is Liquidity.TAKER else config.maker_fee_bps
    if order.side is Side.BUY:
        return fee_of(book.base_amount(symbol, execution.quantity), bps=bps), symbol.base_asset
    received = book.quote_amount(symbol, execution.price * execution.quantity, up=False)
    return fee_of(received, bps=bps), symbol.quote_asset


def other(side: Side) -> Side:
    return Side.SELL if side is Side.BUY else Side.BUY

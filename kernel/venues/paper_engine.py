"""The paper exchange's engine: takes requests, matches, keeps its books, reports. Synchronous, and deterministic.

Called by `paper_exchange` (which adds time, faults and sessions) and by tests. Everything it does is decided first, then
journaled, then applied and reported: a request that raised changed nothing. Its instants strictly increase over the whole
exchange, so that a report's `transact_time_ns` orders all it ever said. It knows nothing of networks.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from kernel.clock import NS_PER_MS, NS_PER_S, Clock
from kernel.errors import IntegrityError, NotFoundError, OutcomeUnknown, Rejected, ValidationError, Violation
from kernel.models import Balance, Liquidity, OrdStatus
from kernel.order_spec import OrderType, Side, StandardOrder, SymbolMetadata, SymbolStatus, TimeInForce
from kernel.venues.base import CancelRequest, Dedupe, ExecutionReport, ModifyRequest, SubmitRequest
from kernel.venues.paper_book import PaperBook, PaperOrder, PaperTrade
from kernel.venues.paper_changes import (
    OWN,
    AheadChanged,
    Change,
    Closed,
    Corrected,
    JournalHead,
    Opened,
    SymbolSet,
    Traded,
)
from kernel.venues.paper_config import PaperConfig, TapeTrade
from kernel.venues.paper_journal import Journal
from kernel.venues.paper_market import PaperMarket
from kernel.venues.paper_reports import fill_key, report_of, status_report
from kernel.venues.paper_rules import Ending, Execution, Incoming, Match, fee_of, match

CLIENT_ORDER_ID = re.compile(r"[a-zA-Z0-9_-]{1,36}")
STAMP_AHEAD_NS = NS_PER_S
"""A stamp further in the future than this is refused, where there is a window."""
FILTER_CODE = "-1013"
FILTERS = {
    "price range": "PRICE_FILTER",
    "tick_size": "PRICE_FILTER",
    "quantity range": "LOT_SIZE",
    "lot_size": "LOT_SIZE",
    "min_notional": "NOTIONAL",
    "max_notional": "NOTIONAL",
    "max_open_orders": "MAX_NUM_ORDERS",
}
"""Binance's name of the filter that checks a constraint."""
CODES = {"order_types": "-1116", "times_in_force": "-1115"}
"""Codes of constraints that Binance does not call filters."""


@dataclass(slots=True)
class _Ids:
    """The next ids to give."""

    order: int
    trade: int
    exec: int


class _Party(NamedTuple):
    """One side of a trade."""

    order_id: int
    symbol_id: str
    side: Side
    own: bool


class PaperEngine:
    """A price-time matching exchange for one client account, other accounts, and a tape."""

    def __init__(
        self,
        config: PaperConfig,
        *,
        clock: Clock,
        seed: int = 0,
        journal: Journal | None = None,
        on_report: Callable[[ExecutionReport], None] | None = None,
    ) -> None:
        """Recover from the journal, or begin anew. `IntegrityError` names the first bad line."""
        self.config = config
        self.clock = clock
        self.fills: list[ExecutionReport] = []
        """Every trade, correction and bust of the client, as reported, oldest first."""
        self._journal = journal
        self._on_report = on_report
        head = JournalHead(first_id=self._first_id(), balances=config.balances)
        head, recorded = journal.recover(head) if journal else (head, iter(()))
        self.book = PaperBook(config, balances=head.balances)
        self._markets = {
            symbol_id: PaperMarket(
                symbol, last_price=config.last_prices.get(symbol_id, 0), seed=seed, levels=config.ladder_levels
            )
            for symbol_id, symbol in self.book.symbols.items()
        }
        self._recover(recorded)
        first = head.first_id
        self._ids = _Ids(
            order=max(self.book.last_order_id + 1, first),
            trade=max(self.book.last_trade_id + 1, first),
            exec=max(self.book.last_exec_id + 1, first),
        )
        self._last_ns = self.book.last_ns
        self._ratchet_ns = 0
        self._rate_ns = 0

    def _recover(self, recorded: Iterable[Iterable[Change]]) -> None:
        """Fold what the journal has; its head is line 1."""
        for number, changes in enumerate(recorded, start=2):
            try:
                self._apply(changes)
            except (KeyError, IndexError, AssertionError) as error:
                text = f"line {number} of the journal does not follow from the lines before it: {error!r}"
                raise IntegrityError(text, position=number) from error

    def _first_id(self) -> int:
        if self.config.first_id is not None:
            return self.config.first_id
        return 1 if self._journal else max(self.clock.now_ns() // NS_PER_MS, 1)

    # --------------------------------------------------------------------------------------------------- the client
    def submit(self, request: SubmitRequest) -> ExecutionReport:
        """Accept and match an order; its first report. `Rejected`, or `OutcomeUnknown` for an id that was used."""
        self.check_window(request)
        self._check_id(request.client_order_id)
        symbol = self._check_order(request.order)
        matched = self._match(request.order, OWN)
        if matched.ending is Ending.REFUSED:
            raise Rejected("Order would immediately match and take.", code="-2010")
        self._check_funds(symbol, request.order, matched)
        return self._place(OWN, request.client_order_id, request.order, matched)[0]

    def cancel(self, request: CancelRequest, *, bare: bool = False) -> ExecutionReport:
        """Take an order off the book; the report of it. `OutcomeUnknown` when no such order is open."""
        self.check_window(request)
        order = self._target(request)
        if order is None or not order.open:
            raise OutcomeUnknown("Unknown order sent.", code="-2011")
        return self._close(order, request_id=request.client_order_id, bare=bare)

    def modify(self, request: ModifyRequest) -> ExecutionReport:
        """Refuse: an order is changed here by canceling it and placing another."""
        self.check_window(request)
        raise Rejected("this venue does not amend orders", code="-1020")

    def order(self, symbol_id: str, client_order_id: str, *, stale_ns: int = 0) -> ExecutionReport | None:
        """The client's newest order under an id as the query shows it now; None when it shows none."""
        if not self.config.lookup:
            raise OutcomeUnknown("this venue has no look-up by client order id", code="-1020")
        found = self.book.newest(client_order_id, as_of_ns=self._as_of(self.config.read_lag.order_ns, stale_ns))
        if found is None or found.symbol_id != symbol_id:
            return None
        return status_report(found) if found.open or self.config.lookup_closed else None

    def open_orders(self, *, stale_ns: int = 0) -> tuple[ExecutionReport, ...]:
        """The client's open orders as the query shows them now, oldest first."""
        as_of_ns = self._as_of(self.config.read_lag.open_orders_ns, stale_ns)
        orders = self.book.own_open() if as_of_ns is None else self.book.own_orders(as_of_ns=as_of_ns)
        found = sorted((order for order in orders if order.open), key=lambda order: order.order_id)
        return tuple(map(status_report, found))

    def fills_since(self, since_ns: int, *, stale_ns: int = 0) -> tuple[ExecutionReport, ...]:
        """The client's trades, corrections and busts since an instant as the query shows them now, oldest first."""
        as_of_ns = self._as_of(self.config.read_lag.trades_ns, stale_ns)
        begin = bisect_left(self.fills, since_ns, key=_instant)
        end = len(self.fills) if as_of_ns is None else bisect_right(self.fills, as_of_ns, key=_instant)
        return tuple(self.fills[begin:end])

    def balances(self, *, stale_ns: int = 0) -> dict[str, Balance]:
        """The client's balances as the query shows them now."""
        return self.book.balances(as_of_ns=self._as_of(self.config.read_lag.open_orders_ns, stale_ns))

    def charge(self) -> None:
        """Count one request against the rate limit; `Rejected` with when to come back, if it is over."""
        rate = self.config.requests_per_second
        if rate is None:
            return
        now_ns, each_ns = self.clock.now_ns(), NS_PER_S // rate
        due_ns = max(self._rate_ns, now_ns)
        over_ns = due_ns + each_ns - (now_ns + NS_PER_S)
        if over_ns > 0:
            raise Rejected("Too many requests.", code="-1003", retry_after_s=over_ns / NS_PER_S)
        self._rate_ns = due_ns + each_ns

    def check_window(self, request: SubmitRequest | CancelRequest) -> None:
        """`Rejected` when the request is past its validity, or stamped in the future."""
        window_ns = self.config.validity_window_ns
        if window_ns is None:
            return
        until_ns = request.stamp_ns + window_ns if request.valid_until_ns is None else request.valid_until_ns
        now_ns = self.clock.now_ns()
        if now_ns > until_ns:
            raise Rejected("Timestamp for this request is outside of the recvWindow.", code="-1021")
        if request.stamp_ns > now_ns + STAMP_AHEAD_NS + self.config.clock_skew_ns:
            raise Rejected("Timestamp for this request was 1000ms ahead of the server's time.", code="-1021")

    # ------------------------------------------------------------------------------------------- the rest of the world
    def tape_trade(self, symbol_id: str, trade: TapeTrade) -> None:
        """The market traded: fill what it reaches."""
        market = self._markets[symbol_id]
        market.observe(trade)
        if self.book.symbols[symbol_id].status is not SymbolStatus.TRADING:
            return
        changes: list[Change] = []
        left = trade.quantity
        for side in (Side.SELL, Side.BUY):
            if left:
                incoming = Incoming(side, left, trade.price, tape=True)
                matched = match(incoming, self.book.resting(symbol_id, _other(side)))
                left = matched.leaves
                changes += self._tape_changes(matched)
        if changes:
            self._commit(changes, durable=any(isinstance(change, Traded) for change in changes))

    def place_other(self, order: StandardOrder, *, account: str = "other") -> str:
        """Another account places an order, outside of filters and funds; its venue id. It meets every account's orders
        but its own, and not the ladder."""
        if account == OWN or order.symbol_id not in self.book.symbols:
            raise ValidationError("another account needs a name, and a symbol that is traded here")
        matched = self._match(order, account)
        if matched.ending is Ending.REFUSED:
            raise Rejected("Order would immediately match and take.", code="-2010")
        self._place(account, "", order, matched)
        return str(self.book.last_order_id)

    def cancel_order(
        self, *, client_order_id: str | None = None, exchange_order_id: str | None = None, text: str | None = None
    ) -> None:
        """The exchange cancels an order by itself (whoever's it is). `NotFoundError` when no such order is open."""
        order = (
            self._by_venue_id(exchange_order_id)
            if exchange_order_id is not None
            else self.book.newest(client_order_id or "", open_only=True)
        )
        if order is None or not order.open:
            raise NotFoundError(f"no open order {exchange_order_id or client_order_id}")
        self._close(order, text=text or "canceled by the exchange")

    def bust(self, trade_id: int | str) -> None:
        """A trade of the client's is void; a filled order that can rest works again."""
        self.correct(trade_id, quantity=0)

    def correct(self, trade_id: int | str, *, price: int | None = None, quantity: int | None = None) -> None:
        """A trade of the client's has other terms. `NotFoundError`, or `ValidationError` for an impossible quantity."""
        trade = self.book.trades.get(int(trade_id))
        if trade is None or trade.quantity == 0:
            raise NotFoundError(f"no trade {trade_id} of the client stands")
        order = self.book.order(trade.order_id)
        assert order is not None, "a trade names an order"
        new_quantity = trade.quantity if quantity is None else quantity
        new_price = trade.price if price is None else price
        cum_qty = order.cum_qty + new_quantity - trade.quantity
        if not 0 <= cum_qty <= order.quantity or new_quantity < 0:
            limit = f"0 … {order.quantity - order.cum_qty + trade.quantity}"
            raise ValidationError("impossible correction", [Violation("quantity", "range", limit, str(quantity))])
        self._commit(self._correction(order, trade, price=new_price, quantity=new_quantity))

    def halt(self, symbol_id: str) -> None:
        """Take no orders in a symbol, and match nothing."""
        self._set_status(symbol_id, SymbolStatus.HALTED)

    def resume(self, symbol_id: str) -> None:
        """Take orders in a symbol again."""
        self._set_status(symbol_id, SymbolStatus.TRADING)

    def set_filters(self, symbol_id: str, *, tick_size: int | None = None, lot_size: int | None = None) -> None:
        """A symbol has another tick or lot from now on; orders that rest stay as they are. `NotFoundError` for an unknown
        symbol, `ValidationError` for a size that is not above 0."""
        if symbol_id not in self.book.symbols:
            raise NotFoundError(f"no symbol {symbol_id}")
        for name, size in (("tick_size", tick_size), ("lot_size", lot_size)):
            if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size <= 0):
                raise ValidationError("no such filter", [Violation(name, "range", "an integer above 0", str(size))])
        self._commit([SymbolSet(symbol_id=symbol_id, tick_size=tick_size, lot_size=lot_size)])

    def last_price(self, symbol_id: str) -> int:
        """The last trade price of a symbol's tape, at the price scale."""
        return self._markets[symbol_id].last_price

    def truth(self) -> dict[str, Any]:
        """What is so, for auditors: every order and trade of the client, and the balances, without lag and as JSON."""
        return {
            "orders": [order_truth(order) for order in self.book.own_orders()],
            "trades": [self.trade_truth(trade) for trade in self.book.trades.values()],
            "balances": {asset: balance.model_dump(mode="json") for asset, balance in self.book.balances().items()},
        }

    # ------------------------------------------------------------------------------------------------------- checking
    def _check_id(self, client_order_id: str) -> None:
        if not CLIENT_ORDER_ID.fullmatch(client_order_id):
            raise Rejected("Illegal characters found in parameter 'newClientOrderId'.", code="-1100")
        newest = self.book.newest(client_order_id)
        if newest is None or self.config.dedupe is Dedupe.NONE:
            return
        for_ns = self.config.dedupe_for_ns
        recent = for_ns is not None and self.clock.now_ns() <= newest.created_ns + for_ns
        open_one = self.book.newest(client_order_id, open_only=True) is not None
        if open_one or recent or self.config.dedupe is Dedupe.FOR_EVER:
            raise OutcomeUnknown("Duplicate order sent.", code="-2010", duplicate=True)

    def _check_order(self, order: StandardOrder) -> SymbolMetadata:
        symbol = self.book.symbols.get(order.symbol_id)
        if symbol is None:
            raise Rejected("Invalid symbol.", code="-1121")
        if symbol.status is SymbolStatus.HALTED:
            raise Rejected("Market is closed.", code="-2010", retry_after_s=self.config.halt_retry_after_s)
        if symbol.status is SymbolStatus.CLOSED:
            raise Rejected("Market is closed.", code="-2010")
        violations = symbol.violations(order, open_orders=self.book.open_count(order.symbol_id))
        if violations:
            raise _filter_failure(violations)
        return symbol

    def _check_funds(self, symbol: SymbolMetadata, order: StandardOrder, matched: Match) -> None:
        if order.side is Side.SELL:
            needed, asset_id = self.book.base_amount(symbol, order.quantity), symbol.base_asset
        else:
            at_market = sum(execution.price * execution.quantity for execution in matched.executions)
            notional = at_market if order.price is None else order.price * order.quantity
            needed, asset_id = self.book.quote_amount(symbol, notional, up=True), symbol.quote_asset
        if needed > self.book.free(asset_id):
            raise Rejected("Account has insufficient balance for requested action.", code="-2010")

    def _target(self, request: CancelRequest) -> PaperOrder | None:
        if request.target_exchange_order_id is None:
            order = self.book.newest(request.target_client_order_id, open_only=True)
        else:
            order = self._by_venue_id(request.target_exchange_order_id)
        return order if order is not None and order.own and order.symbol_id == request.symbol_id else None

    def _by_venue_id(self, exchange_order_id: str) -> PaperOrder | None:
        return self.book.order(int(exchange_order_id)) if exchange_order_id.isdecimal() else None

    # ------------------------------------------------------------------------------------------------------- deciding
    def _match(self, order: StandardOrder, account: str) -> Match:
        incoming = Incoming(
            order.side,
            order.quantity,
            limit=order.price,
            time_in_force=TimeInForce.IOC if order.order_type is OrderType.MARKET else order.time_in_force,
            post_only=order.post_only,
        )
        resting = self.book.resting(order.symbol_id, _other(order.side), but_account=account)
        offers = self._markets[order.symbol_id].offers(order.side) if account == OWN else ()
        return match(incoming, resting, offers)

    def _place(self, account: str, client_order_id: str, order: StandardOrder, matched: Match) -> list[ExecutionReport]:
        market = self._markets[order.symbol_id]
        opened = Opened(
            at_ns=self._tick(),
            exec_id=self._exec_id(),
            order_id=self._ids.order,
            account=account,
            client_order_id=client_order_id,
            symbol_id=order.symbol_id,
            side=order.side,
            order_type=order.order_type,
            quantity=order.quantity,
            price=order.price,
            time_in_force=order.time_in_force,
            post_only=order.post_only,
            ahead=market.volume_at(order.price) if account == OWN and order.price is not None else 0,
        )
        self._ids.order += 1
        changes: list[Change] = [opened]
        for execution in matched.executions:
            changes += self._execution_changes(opened, execution)
        if matched.ending is Ending.EXPIRED:
            changes.append(self._closed(opened.order_id, OrdStatus.EXPIRED))
        reports = self._commit(changes)
        for execution in matched.executions:
            if execution.order_id is None:
                market.take(order.side, price=execution.price, quantity=execution.quantity)
        return reports

    def _execution_changes(self, taker: Opened, execution: Execution) -> Iterable[Change]:
        """Both sides of one trade under one trade id."""
        trade_id = self._trade_id()
        party = _Party(taker.order_id, taker.symbol_id, taker.side, taker.account == OWN)
        yield self._traded(party, execution, trade_id=trade_id, liquidity=Liquidity.TAKER)
        if execution.order_id is not None:
            yield self._maker_change(execution, trade_id=trade_id)

    def _tape_changes(self, matched: Match) -> Iterable[Change]:
        for order_id, ahead in matched.ahead.items():
            yield AheadChanged(order_id=order_id, ahead=ahead)
        for execution in matched.executions:
            yield self._maker_change(execution, trade_id=self._trade_id())

    def _maker_change(self, execution: Execution, *, trade_id: int) -> Traded:
        assert execution.order_id is not None, "a maker is an order"
        maker = self.book.order(execution.order_id)
        assert maker is not None, "a match names orders of the book"
        return self._traded(_party(maker), execution, trade_id=trade_id, liquidity=Liquidity.MAKER)

    def _traded(self, party: _Party, execution: Execution, *, trade_id: int, liquidity: Liquidity) -> Traded:
        fee, fee_asset = self._fee(party, execution, liquidity)
        return Traded(
            at_ns=self._tick(),
            exec_id=self._exec_id(),
            order_id=party.order_id,
            trade_id=trade_id,
            price=execution.price,
            quantity=execution.quantity,
            liquidity=liquidity,
            fee=fee if party.own else 0,
            fee_asset=fee_asset,
        )

    def _fee(self, party: _Party, execution: Execution, liquidity: Liquidity) -> tuple[int, str]:
        """The fee and its asset: of what is received, as on Binance."""
        symbol = self.book.symbols[party.symbol_id]
        bps = self.config.taker_fee_bps if liquidity is Liquidity.TAKER else self.config.maker_fee_bps
        if party.side is Side.BUY:
            return fee_of(self.book.base_amount(symbol, execution.quantity), bps=bps), symbol.base_asset
        received = self.book.quote_amount(symbol, execution.price * execution.quantity, up=False)
        return fee_of(received, bps=bps), symbol.quote_asset

    def _close(
        self, order: PaperOrder, *, request_id: str | None = None, bare: bool = False, text: str | None = None
    ) -> ExecutionReport:
        bare = request_id is not None and (bare or not self.config.cancel_reports_cum_qty)
        change = self._closed(order.order_id, OrdStatus.CANCELED, request_id=request_id, bare=bare, text=text)
        reports = self._commit([change])
        return reports[0] if reports else status_report(order)

    def _closed(
        self,
        order_id: int,
        status: OrdStatus,
        *,
        request_id: str | None = None,
        bare: bool = False,
        text: str | None = None,
    ) -> Closed:
        return Closed(
            at_ns=self._tick(),
            exec_id=self._exec_id(),
            order_id=order_id,
            status=status,
            request_id=request_id,
            bare=bare,
            text=text,
        )

    def _correction(self, order: PaperOrder, trade: PaperTrade, *, price: int, quantity: int) -> list[Change]:
        fee, _ = self._fee(_party(order), Execution(None, price, quantity), trade.liquidity)
        changes: list[Change] = [
            Corrected(
                at_ns=self._tick(),
                exec_id=self._exec_id(),
                trade_id=trade.trade_id,
                ref_exec_id=trade.last_exec_id,
                price=price,
                quantity=quantity,
                fee=fee,
            )
        ]
        rests = order.price is not None and order.time_in_force is TimeInForce.GTC
        if order.status is OrdStatus.FILLED and quantity < trade.quantity and not rests:
            changes.append(self._closed(order.order_id, OrdStatus.EXPIRED))
        return changes

    def _set_status(self, symbol_id: str, status: SymbolStatus) -> None:
        if symbol_id not in self.book.symbols:
            raise NotFoundError(f"no symbol {symbol_id}")
        if self.book.symbols[symbol_id].status is not status:
            self._commit([SymbolSet(symbol_id=symbol_id, status=status)])

    # ------------------------------------------------------------------------------------------------------- changing
    def _commit(self, changes: list[Change], *, durable: bool = True) -> list[ExecutionReport]:
        """Journal, apply, report. What the journal refuses did not happen."""
        if self._journal is not None:
            try:
                self._journal.append(tuple(changes), durable=durable)
            except OSError as error:
                raise OutcomeUnknown(f"the exchange cannot write its journal: {error}", code="503") from error
        reports = self._apply(changes)
        if self._on_report is not None:
            for report in reports:
                self._on_report(report)
        return reports

    def _apply(self, changes: Iterable[Change]) -> list[ExecutionReport]:
        reports = []
        for change in changes:
            self.book.apply(change)
            report = report_of(change, self.book)
            if report is None:
                continue
            reports.append(report)
            if report.fill_key is not None:
                self.fills.append(report)
        return reports

    def _tick(self) -> int:
        """The next instant of the exchange: the clock's, or one later than the last."""
        now_ns = self.clock.now_ns()
        self._last_ns = max(now_ns, self._last_ns + 1)
        self._ratchet_ns = max(self._ratchet_ns, self._last_ns - now_ns)
        return self._last_ns

    def _exec_id(self) -> int:
        self._ids.exec += 1
        return self._ids.exec - 1

    def _trade_id(self) -> int:
        self._ids.trade += 1
        return self._ids.trade - 1

    def _as_of(self, lag_ns: int, stale_ns: int) -> int | None:
        """The instant whose state a query shows; None for now. Changes carry instants that may be ahead of the clock, and
        nothing may be hidden for longer than the lag: so a query shows what is that much newer."""
        behind_ns = max(lag_ns, stale_ns)
        return self.clock.now_ns() - behind_ns + self._ratchet_ns if behind_ns else None

    def trade_truth(self, trade: PaperTrade) -> dict[str, Any]:
        """What is so of one of the client's trades, as JSON."""
        order = self.book.order(trade.order_id)
        assert order is not None, "a trade names an order"
        return {
            "trade_id": str(trade.trade_id),
            "fill_key": fill_key(order, trade.trade_id),
            "exchange_order_id": str(order.order_id),
            "client_order_id": order.client_order_id,
            "symbol_id": order.symbol_id,
            "side": str(order.side),
            "last_qty": trade.quantity,
            "last_px": trade.price,
            "fee": trade.fee,
            "fee_asset": trade.fee_asset,
            "busted": trade.quantity == 0,
        }


def _party(order: PaperOrder) -> _Party:
    return _Party(order.order_id, order.symbol_id, order.side, order.own)


def _filter_failure(violations: list[Violation]) -> Rejected:
    """The refusal that names every violated filter; its code is the first one's."""
    code = CODES.get(violations[0].constraint, FILTER_CODE)
    named = "; ".join(
        f"Filter failure: {FILTERS.get(violation.constraint, violation.constraint)} ({violation})"
        for violation in violations
    )
    return Rejected(named, code=code)


def order_truth(order: PaperOrder) -> dict[str, Any]:
    """What is so of an order, as JSON."""
    return {
        "client_order_id": order.client_order_id,
        "exchange_order_id": str(order.order_id),
        "symbol_id": order.symbol_id,
        "side": str(order.side),
        "status": str(order.status),
        "price": order.price,
        "quantity": order.quantity,
        "cum_qty": order.cum_qty,
        "leaves_qty": order.leaves_qty,
    }


def _other(side: Side) -> Side:
    return Side.SELL if side is Side.BUY else Side.BUY


def _instant(report: ExecutionReport) -> int:
    return report.transact_time_ns or 0

"""The paper exchange's engine: accepts requests, matches, keeps the books and reports. Synchronous and deterministic.

`exchange` calls it. Each request is decided, then journaled, then applied and reported: a request that raises has changed
nothing. Instants strictly increase over the whole exchange, so that `transact_time_ns` orders all reports.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from kernel.clock import NS_PER_MS, NS_PER_S, Clock
from kernel.errors import IntegrityError, NotFoundError, OutcomeUnknown, Rejected, ValidationError
from kernel.models import Balance, OrdStatus
from kernel.order_spec import Side, StandardOrder, SymbolStatus, TimeInForce
from kernel.values import as_json
from kernel.venues import base
from kernel.venues.paper.matching.amend import amend, cancel_replaced
from kernel.venues.paper.matching.book import PaperBook
from kernel.venues.paper.matching.changes import OWN, Corrected, JournalEntry, JournalHead, OrderChange, SymbolSet
from kernel.venues.paper.matching.config import PaperConfig, TapeTrade
from kernel.venues.paper.matching.contingent import open_group, update_groups
from kernel.venues.paper.matching.journal import Journal
from kernel.venues.paper.matching.market import PaperMarket
from kernel.venues.paper.matching.matching_rules import Execution, Incoming, match
from kernel.venues.paper.matching.order_checks import check_entry, check_terms, filter_failure, iceberg_violations
from kernel.venues.paper.matching.orders import PaperOrder
from kernel.venues.paper.matching.rate_limits import PaperRates
from kernel.venues.paper.matching.reports import order_oracle_state, report_of, status_report, trade_oracle_state
from kernel.venues.paper.matching.transaction import IdSequence, Transaction, fee_on, other

CLIENT_ORDER_ID = re.compile(r"[a-zA-Z0-9_-]{1,36}")
STAMP_AHEAD_NS = NS_PER_S
"""With a validity window, a stamp further in the future than this is refused."""


class PaperEngine:
    """A price-time matching exchange for one client account, other accounts, and a tape."""

    def __init__(
        self,
        config: PaperConfig,
        *,
        clock: Clock,
        seed: int = 0,
        journal: Journal | None = None,
        on_report: Callable[[base.ExecutionReport], None] | None = None,
    ) -> None:
        """Recover from the journal, or start empty; raises `IntegrityError` for the first bad line."""
        self.config = config
        self.clock = clock
        self.fills: list[base.ExecutionReport] = []
        """The client's trades, corrections and busts, oldest first."""
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
        self._sequence = IdSequence(
            clock=clock,
            order=max(self.book.last_order_id + 1, first),
            trade=max(self.book.last_trade_id + 1, first),
            exec=max(self.book.last_exec_id + 1, first),
            last_ns=self.book.last_ns,
        )
        self.rates = PaperRates(config.rate_limits)

    def _recover(self, recorded: Iterable[Iterable[JournalEntry]]) -> None:
        for number, changes in enumerate(recorded, start=2):
            try:
                self._apply(changes)
            except (KeyError, IndexError, AssertionError) as error:
                text = f"line {number} of the journal contradicts the lines before it: {error!r}"
                raise IntegrityError(text, position=number) from error

    def _first_id(self) -> int:
        if self.config.first_id is not None:
            return self.config.first_id
        return 1 if self._journal else max(self.clock.now_ns() // NS_PER_MS, 1)

    def submit(self, request: base.SubmitRequest) -> base.ExecutionReport:
        """Accept and match an order; returns its first report. Raises `Rejected`, or `OutcomeUnknown` for a used id."""
        self.expire_due()
        self.check_window(request)
        self._check_id(request.client_order_id)
        transaction = self._transaction()
        check_terms(transaction, request.order)
        order = transaction.open(request.order, client_order_id=request.client_order_id)
        transaction.enter(order.order_id, check_entry(transaction, order))
        update_groups(transaction)
        return self._commit(transaction)[0]

    def submit_group(self, request: base.SubmitGroupRequest) -> tuple[base.ExecutionReport, ...]:
        """Accept all orders of a group or none; returns the first report of each. Raises as `submit` does."""
        self.expire_due()
        self.check_window(request)
        if request.mode not in self.config.native_groups:
            raise Rejected(f"This venue does not manage {request.mode} groups.", code="-1020")
        names = [member.client_order_id for member in request.orders]
        if len({*names}) < len(names):
            raise Rejected("Two orders of the group have the same 'newClientOrderId'.", code="-1100")
        for member in request.orders:
            self.check_window(member)
            self._check_id(member.client_order_id)
        transaction = self._transaction()
        openings = open_group(transaction, request)
        reports = self._commit(transaction)
        return tuple(_answer(reports, opening) for opening in openings)

    def cancel(self, request: base.CancelRequest, *, bare: bool = False) -> base.ExecutionReport:
        """Cancel an order; returns the report. Raises `OutcomeUnknown` if no such order is open."""
        self.expire_due()
        self.check_window(request)
        order = self._open_target(request)
        transaction = self._transaction()
        change = transaction.close(order.order_id, OrdStatus.CANCELED, request_id=request.client_order_id, bare=bare)
        update_groups(transaction)
        return _answer(self._commit(transaction), change)

    def modify(self, request: base.ModifyRequest) -> base.ExecutionReport:
        """Change an order; returns the report of the change, or of the order that replaces it.

        Raises `Rejected`, or `OutcomeUnknown` for a used id or if no such order is open.
        """
        self.expire_due()
        self.check_window(request)
        if self.config.amend is base.AmendDialect.NONE:
            raise Rejected("This venue does not amend orders.", code="-1020")
        self._check_id(request.client_order_id)
        target = self._open_target(request)
        transaction = self._transaction()
        try:
            change = amend(transaction, target, request)
        except Rejected:
            if self.config.amend is base.AmendDialect.CANCEL_REPLACE and not self.config.amend_atomic:
                transaction = self._transaction()
                cancel_replaced(transaction, target, request)
                update_groups(transaction)
                self._commit(transaction)
            raise
        return _answer(self._commit(transaction), change)

    def order(
        self, symbol_id: str, client_order_id: str | None, exchange_order_id: str | None
    ) -> base.ExecutionReport | None:
        """Return a report of the client's newest order with an id, as the query shows it; None if it shows none."""
        if not self.config.lookup:
            raise OutcomeUnknown("This venue has no query by client order id.", code="-1020")
        self.expire_due()
        as_of_ns = self._as_of(self.config.read_lag.order_ns)
        if client_order_id is not None:
            found = self.book.newest(client_order_id, as_of_ns=as_of_ns)
        else:
            found = self.book.own_order(exchange_order_id or "", as_of_ns=as_of_ns)
        if found is None or found.symbol_id != symbol_id:
            return None
        return status_report(found, asked=client_order_id) if found.open or self.config.lookup_closed else None

    def open_orders(self, *, stale_ns: int = 0) -> tuple[base.ExecutionReport, ...]:
        """Return reports of the client's open orders, as the query shows them, oldest first."""
        self.expire_due()
        as_of_ns = self._as_of(self.config.read_lag.open_orders_ns, stale_ns)
        orders = self.book.own_open() if as_of_ns is None else self.book.own_orders(as_of_ns=as_of_ns)
        found = sorted((order for order in orders if order.open), key=lambda order: order.order_id)
        if self.config.trigger_parent_stays_listed:
            stops = [self.book.current(order.stop_id) for order in found if order.stop_id is not None]
            found = [*(replace(stop, status=OrdStatus.NEW) for stop in stops), *found]
        return tuple(map(status_report, found))

    def fills_since(self, since_ns: int, *, stale_ns: int = 0) -> tuple[base.ExecutionReport, ...]:
        """Return the client's trades, corrections and busts since an instant, as the query shows them."""
        as_of_ns = self._as_of(self.config.read_lag.trades_ns, stale_ns)
        begin = bisect_left(self.fills, since_ns, key=_instant)
        end = len(self.fills) if as_of_ns is None else bisect_right(self.fills, as_of_ns, key=_instant)
        return tuple(self.fills[begin:end])

    def balances(self, *, stale_ns: int = 0) -> dict[str, Balance]:
        self.expire_due()
        return self.book.balances(as_of_ns=self._as_of(self.config.read_lag.open_orders_ns, stale_ns))

    def charge(self, operation: base.Operation, *, times: int = 1) -> None:
        """Count a call against the rate limits; raises `Rejected` with a retry delay if one is exceeded."""
        self.rates.charge(operation, times, now_ns=self.clock.now_ns())

    def check_window(self, request: base.SubmitRequest | base.CancelRequest | base.SubmitGroupRequest) -> None:
        """Raise `Rejected` if a request has expired or is stamped in the future."""
        window_ns = self.config.validity_window_ns
        if window_ns is None:
            return
        until_ns = request.stamp_ns + window_ns if request.valid_until_ns is None else request.valid_until_ns
        now_ns = self.clock.now_ns()
        if now_ns > until_ns:
            raise Rejected("Timestamp for this request is outside of the recvWindow.", code="-1021", timestamp=True)
        if request.stamp_ns > now_ns + STAMP_AHEAD_NS + self.config.clock_skew_ns:
            text = "Timestamp for this request was 1000ms ahead of the server's time."
            raise Rejected(text, code="-1021", timestamp=True)

    def tape_trade(self, symbol_id: str, trade: TapeTrade) -> None:
        """Process a trade of the market: fill the orders, then trigger the stop orders that it reaches."""
        self.expire_due()
        self._markets[symbol_id].observe(trade)
        if self.book.symbols[symbol_id].status is not SymbolStatus.TRADING:
            return
        transaction = self._transaction()
        left = trade.quantity
        for side in (Side.SELL, Side.BUY):
            if left:
                incoming = Incoming(side, left, trade.price, tape=True)
                matched = match(incoming, transaction.resting(symbol_id, other(side)))
                left = matched.leaves
                transaction.execute(matched)
                update_groups(transaction)
        _fire_stops(transaction, symbol_id)
        if transaction.changes:
            self._commit(transaction, durable=any(isinstance(change, OrderChange) for change in transaction.changes))

    def expire_due(self) -> None:
        order_ids = self.book.expired(self.clock.now_ns())
        if order_ids:
            transaction = self._transaction()
            for order_id in order_ids:
                if transaction.order(order_id).open:
                    transaction.close(order_id, OrdStatus.EXPIRED)
                    update_groups(transaction)
            self._commit(transaction)

    def place_other(self, order: StandardOrder, *, account: str = "other") -> str:
        """Place an order for another account, exempt from filters and funds; returns its venue id.

        It meets the orders of all other accounts, but not the synthetic depth.
        """
        self.expire_due()
        symbol = self.book.symbols.get(order.symbol_id)
        if account == OWN or symbol is None:
            raise ValidationError(
                f"account {account!r} and symbol {order.symbol_id}: give a non-empty name and a listed symbol"
            )
        violations = iceberg_violations(symbol, order)
        if violations:
            raise filter_failure(violations)
        transaction = self._transaction()
        opened = transaction.open(order, client_order_id="", account=account)
        transaction.enter(opened.order_id, check_entry(transaction, opened))
        update_groups(transaction)
        self._commit(transaction)
        return str(opened.order_id)

    def cancel_order(
        self, *, client_order_id: str | None = None, exchange_order_id: str | None = None, text: str | None = None
    ) -> None:
        """Cancel any account's order on the exchange's own initiative; raises `NotFoundError` if none is open."""
        order = (
            self._by_venue_id(exchange_order_id)
            if exchange_order_id is not None
            else self.book.newest(client_order_id or "", open_only=True)
        )
        if order is None or not order.open:
            raise NotFoundError(f"order {exchange_order_id or client_order_id} is not open")
        transaction = self._transaction()
        transaction.close(order.order_id, OrdStatus.CANCELED, text=text or "canceled by the exchange")
        update_groups(transaction)
        self._commit(transaction)

    def bust(self, trade_id: int | str) -> None:
        """Void a trade of the client; a filled order that can rest works again."""
        self.correct(trade_id, quantity=0)

    def correct(self, trade_id: int | str, *, price: int | None = None, quantity: int | None = None) -> None:
        """Change a client's trade; raises `NotFoundError` or `ValidationError` if that is impossible."""
        self.expire_due()
        trade = self.book.trades.get(int(trade_id))
        if trade is None or trade.quantity == 0:
            raise NotFoundError(f"trade {trade_id} of the client does not exist or is busted")
        order = self.book.current(trade.order_id)
        new_quantity = trade.quantity if quantity is None else quantity
        new_price = trade.price if price is None else price
        cum_qty = order.cum_qty + new_quantity - trade.quantity
        if not 0 <= cum_qty <= order.quantity or new_quantity < 0:
            most = order.quantity - order.cum_qty + trade.quantity
            raise ValidationError(
                f"a correction of trade {trade_id} to {quantity} is impossible: the quantity must be from 0 to {most}"
            )
        transaction = self._transaction()
        fee, _ = fee_on(self.book, self.config, order, Execution(None, new_price, new_quantity), trade.liquidity)
        transaction.note(
            Corrected(
                **transaction.stamp(),
                trade_id=trade.trade_id,
                ref_exec_id=trade.last_exec_id,
                price=new_price,
                quantity=new_quantity,
                fee=fee,
            )
        )
        if order.status is OrdStatus.FILLED and new_quantity < trade.quantity and not self._can_rest(order):
            transaction.close(order.order_id, OrdStatus.EXPIRED)
            update_groups(transaction)
        self._commit(transaction)
        following = self._transaction()
        following.moved.add(order.symbol_id)
        update_groups(following)
        if following.changes:
            self._commit(following)

    def _can_rest(self, order: PaperOrder) -> bool:
        expired = order.expires_ns is not None and order.expires_ns <= self.clock.now_ns()
        return order.price is not None and order.time_in_force not in (TimeInForce.IOC, TimeInForce.FOK) and not expired

    def halt(self, symbol_id: str) -> None:
        self._set_status(symbol_id, SymbolStatus.HALTED)

    def resume(self, symbol_id: str) -> None:
        self._set_status(symbol_id, SymbolStatus.TRADING)

    def set_filters(self, symbol_id: str, *, tick_size: int | None = None, lot_size: int | None = None) -> None:
        """Change a symbol's tick size or lot size; resting orders stay unchanged."""
        if symbol_id not in self.book.symbols:
            raise NotFoundError(f"symbol {symbol_id} does not exist")
        for name, size in (("tick_size", tick_size), ("lot_size", lot_size)):
            if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size <= 0):
                raise ValidationError(f"{name} {size} is not an integer above 0")
        self._set(SymbolSet(symbol_id=symbol_id, tick_size=tick_size, lot_size=lot_size))

    def last_price(self, symbol_id: str) -> int:
        return self._markets[symbol_id].last_price

    def truth(self) -> dict[str, Any]:
        """Return all orders and trades of the client and the balances as JSON, without lag, for auditors."""
        self.expire_due()
        return {
            "orders": [order_oracle_state(order) for order in self.book.own_orders()],
            "trades": [
                trade_oracle_state(trade, self.book.current(trade.order_id)) for trade in self.book.trades.values()
            ],
            "balances": {asset: as_json(balance) for asset, balance in self.book.balances().items()},
        }

    def _check_id(self, client_order_id: str) -> None:
        if not CLIENT_ORDER_ID.fullmatch(client_order_id):
            raise Rejected("Illegal characters found in parameter 'newClientOrderId'.", code="-1100")
        named_ns = self.book.named_ns(client_order_id)
        if named_ns is None or self.config.dedupe is base.Dedupe.NONE:
            return
        for_ns = self.config.dedupe_for_ns
        recent = for_ns is not None and self.clock.now_ns() <= named_ns + for_ns
        open_one = self.book.newest(client_order_id, open_only=True) is not None
        if open_one or recent or self.config.dedupe is base.Dedupe.FOR_EVER:
            raise OutcomeUnknown("Duplicate order sent.", code="-2010", duplicate=True)

    def _open_target(self, request: base.CancelRequest) -> PaperOrder:
        if request.target_exchange_order_id is None:
            order = self.book.newest(request.target_client_order_id, open_only=True)
        else:
            order = self._by_venue_id(request.target_exchange_order_id)
        if order is None or not order.open or not order.own or order.symbol_id != request.symbol_id:
            raise OutcomeUnknown("Unknown order sent.", code="-2011")
        return order

    def _by_venue_id(self, exchange_order_id: str) -> PaperOrder | None:
        return self.book.order(int(exchange_order_id)) if exchange_order_id.isdecimal() else None

    def _transaction(self) -> Transaction:
        return Transaction(self.book, config=self.config, markets=self._markets, sequence=self._sequence)

    def _set_status(self, symbol_id: str, status: SymbolStatus) -> None:
        if symbol_id not in self.book.symbols:
            raise NotFoundError(f"symbol {symbol_id} does not exist")
        if self.book.symbols[symbol_id].status is not status:
            self._set(SymbolSet(symbol_id=symbol_id, status=status))

    def _set(self, change: SymbolSet) -> None:
        transaction = self._transaction()
        transaction.note(change)
        self._commit(transaction)

    def _commit(self, transaction: Transaction, *, durable: bool = True) -> list[base.ExecutionReport]:
        """Journal, apply and report the changes. If the journal fails, nothing has happened."""
        assert not transaction.due, "`update_groups` ran"
        if self._journal is not None:
            try:
                self._journal.append(tuple(transaction.changes), durable=durable)
            except OSError as error:
                raise OutcomeUnknown(f"the exchange cannot write its journal: {error}", code="503") from error
        self._sequence = transaction.sequence
        reports = self._apply(transaction.changes)
        for taken in transaction.taken:
            self._markets[taken.symbol_id].take(taken.taker, price=taken.price, quantity=taken.quantity)
        if self._on_report is not None:
            for report in reports:
                self._on_report(report)
        return reports

    def _apply(self, changes: Iterable[JournalEntry]) -> list[base.ExecutionReport]:
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

    def _as_of(self, lag_ns: int, stale_ns: int = 0) -> int | None:
        """Return the instant whose state a query shows; None for now.

        The instants of changes may be ahead of the clock (`ratchet_ns`), and nothing may be hidden for longer than the lag.
        """
        behind_ns = max(lag_ns, stale_ns)
        return self.clock.now_ns() - behind_ns + self._sequence.ratchet_ns if behind_ns else None


def _answer(reports: list[base.ExecutionReport], change: JournalEntry) -> base.ExecutionReport:
    assert isinstance(change, OrderChange), "the answer to a request reports a change of an order"
    return next(report for report in reports if report.exec_id == str(change.exec_id))


def _instant(report: base.ExecutionReport) -> int:
    return report.transact_time_ns or 0


def _fire_stops(transaction: Transaction, symbol_id: str) -> None:
    """Trigger every stop order that the tape's last price reaches, oldest first; each trades before the next fires."""
    last_price = transaction.last_price(symbol_id)
    reached = [order for order in transaction.book.armed(symbol_id) if order.reached_by(last_price)]
    for order in sorted(reached, key=lambda order: order.rank):
        now = transaction.order(order.order_id)
        if now.open and now.armed:
            transaction.trigger(now.order_id)
            update_groups(transaction)

"""Recompute quantities, cash and fees from the fills in a log, in plain integers.

Used by `intents` (fills of one intent) and `events` (positions and balances). It shares no code with the fold, so that a
mistake in either shows up as a difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

import msgspec
from msgspec.structs import replace

from kernel import events
from kernel.lifecycle.findings import finding_id
from kernel.lifecycle.orders.order_facts import OrderFacts, has_same_trades
from kernel.lifecycle.orders.order_status import ENDS
from kernel.lifecycle.orders.trades import TradeEntry, fees_of
from kernel.lifecycle.record import Record
from kernel.models import ExecType, FindingKind
from kernel.order_spec import Side
from projections.state import State
from replay.formatting.problems import ProblemKind, Problems

END_REPORTS = frozenset({ExecType.CANCELED, ExecType.EXPIRED, ExecType.REJECTED})
FILL_EVENTS = (events.OrderFilled, events.FillCorrected, events.FillBusted)
OBSERVATIONS_MAX = 3
"""Account observations after which a drift must have a finding. The kernel raises it right after an observation."""


class Fill(msgspec.Struct, frozen=True, gc=False):
    """A trade or a correction of one."""

    symbol_id: str
    fill_key: str
    signed_quantity: int
    price: int
    time_ns: int
    ref_fill_key: str | None
    fees: dict[str, int] | None
    """By asset; None if not reported."""
    margin_ns: int | None = None
    """How far outside its order's life it still counts; None if it counts at any time."""
    client_order_id: str | None = None
    order_id: str | None = None

    def repeats(self, other: Fill) -> bool:
        """Return whether it reports the same trade as another with its key: ids of trades may begin again with those of
        orders, and another size or price is another trade."""
        if (abs(self.signed_quantity), self.price) != (abs(other.signed_quantity), other.price):
            return False
        if None not in (self.client_order_id, other.client_order_id) and self.client_order_id != other.client_order_id:
            return False
        margins = [item.margin_ns for item in (self, other) if item.margin_ns is not None]
        apart_ns = abs(self.time_ns - other.time_ns) if self.time_ns and other.time_ns else 0
        return not margins or apart_ns <= max(margins)

    def reuses(self, key_of: Fill) -> bool:
        """Return whether it is another trade under the key of a trade of the same order."""
        same_kind = self.ref_fill_key is None is key_of.ref_fill_key
        return same_kind and self.client_order_id == key_of.client_order_id and trade_of(self) != trade_of(key_of)


trade_of = attrgetter("signed_quantity", "price", "time_ns")
amounts_of = attrgetter("symbol_id", "signed_quantity", "price", "fees")

Change = tuple[int, Fill]
"""A fill that counts from now on (1) or no longer (-1)."""


class Sums(msgspec.Struct):
    """Totals of fills in one symbol."""

    quantity: int = 0
    cash: int = 0
    """Proceeds of sales minus cost of purchases."""
    fees: dict[str, int] = {}

    def figures(self) -> tuple[int, int, dict[str, int]]:
        return self.quantity, self.cash, {asset: fee for asset, fee in self.fees.items() if fee}


def add(totals: dict[str, Sums], changes: Iterable[Change]) -> None:
    """Add changes to totals by symbol."""
    for sign, fill in changes:
        sums = totals.get(fill.symbol_id) or totals.setdefault(fill.symbol_id, Sums())
        sums.quantity += sign * fill.signed_quantity
        sums.cash -= sign * fill.signed_quantity * fill.price
        for asset, fee in (fill.fees or {}).items():
            sums.fees[asset] = sums.fees.get(asset, 0) + sign * fee


def figures(totals: dict[str, Sums]) -> dict[str, tuple[int, int, dict[str, int]]]:
    found = {symbol_id: item.figures() for symbol_id, item in totals.items()}
    return {symbol_id: item for symbol_id, item in found.items() if item != (0, 0, {})}


def summed(fills: Iterable[Fill]) -> dict[str, tuple[int, int, dict[str, int]]]:
    totals: dict[str, Sums] = {}
    add(totals, ((1, fill) for fill in fills))
    return figures(totals)


class Fills(msgspec.Struct, gc=False):
    """The fills of one intent."""

    entries: list[Fill] = []
    places: dict[str, tuple[int, ...]] = {}
    """Fill key to indexes in `entries`."""
    void: frozenset[str] = frozenset()
    """Keys of busted fills."""
    corrects: dict[str, str] = {}
    """Key of a correction to that of what it corrects."""
    recounted: Sequence[Fill] | None = None
    """The fills that count, once one was busted or corrected or may be outside its order's life; before, all do."""
    is_bounded: bool = False
    """True if a fill counts only within its order's life, which any report may change."""
    reused_keys: frozenset[str] = frozenset()
    """Fill keys shared by different trades."""

    @property
    def counted(self) -> Sequence[Fill]:
        return self.entries if self.recounted is None else self.recounted

    def apply(self, event: events.OrderReport, name: str | None, lives: Lives, after: Record) -> list[Change]:
        """Add a report, and return what it changes; `name` is the client order id of its order's submit, if known."""
        if not (self.is_bounded or isinstance(event, FILL_EVENTS)):
            return []
        is_plain = self.recounted is None and event.life_margin_ns is None
        if is_plain and isinstance(event, events.OrderFilled):
            return self._enter(fill_of(event, None, name))
        known = [*self.counted]
        match event:
            case events.FillBusted():
                self.void |= {event.ref_fill_key}
            case events.FillCorrected():
                self.corrects.setdefault(event.fill_key, event.ref_fill_key)
                self._enter(fill_of(event, event.ref_fill_key, name))
            case events.OrderFilled():
                self._enter(fill_of(event, None, name))
        self.recounted = [*(self._count(lives) if self._is_clear else fills_of((*after.settled, *after.orders)))]
        return [*((-1, fill) for fill in known), *((1, fill) for fill in self.recounted)]

    def _enter(self, fill: Fill) -> list[Change]:
        places = self.places.get(fill.fill_key, ())
        for place in places:
            known = self.entries[place]
            if fill.repeats(known):
                if fill.fees is None:
                    return []
                self.entries[place] = replace(known, fees=fill.fees)  # the newest report of them counts
                return [(-1, known), (1, self.entries[place])]
        if any(fill.reuses(self.entries[place]) for place in places):
            self.reused_keys |= {fill.fill_key}
        self.is_bounded = self.is_bounded or fill.margin_ns is not None
        self.places[fill.fill_key] = (*places, len(self.entries))
        self.entries.append(fill)
        return [(1, fill)]

    @property
    def _is_clear(self) -> bool:
        """True if every correction refers to a known trade. Otherwise the fills that count are undefined."""
        trades = {fill.fill_key for fill in self.entries if fill.ref_fill_key is None}
        return all(self._root(name) in trades for name in self.corrects)

    def _root(self, fill_key: str) -> str:
        seen = {fill_key}
        while (ref := self.corrects.get(fill_key)) is not None and ref not in seen:
            fill_key = ref
            seen.add(ref)
        return fill_key

    def _count(self, lives: Lives) -> Iterator[Fill]:
        """Yield the fills that count: without busted trades and those outside a life, the newest correction of each."""
        chains: dict[str, list[Fill]] = {}
        for fill in self.entries:
            if in_life(fill, lives):
                chains.setdefault(self._root(fill.fill_key), []).append(fill)
        void = {self._root(key) for key in self.void}
        for root, chain in chains.items():
            if root not in void:
                yield from newest(chain)


class Life(msgspec.Struct, gc=False):
    """When an order lived in venue time, from the reports that name it by a client order id."""

    begun_ns: int | None = None
    """Its first send, or the creation that the venue told."""
    ended_ns: int | None = None
    """The earliest end other than a fill that the venue told, since it was open last."""
    newest_end_ns: int = 0
    """The newest end that was told at any time."""
    is_reopened: bool = False
    """True if it turned out to be open after an end: the venue may repeat that end (H21)."""
    filled: tuple[int, int] = (0, 0)
    """The largest total that was told, and when first (negated)."""
    size: tuple[int, int] | None = None
    """The venue time and size of its newest quantity."""
    order_ids: frozenset[str] = frozenset()
    """The venue ids under which it was reported."""

    def sent(self, event: events.AttemptStarted) -> None:
        self.begun_ns = event.stamp_ns if self.begun_ns is None else self.begun_ns
        self.size = self.size or (-1, event.order.quantity)

    def report(self, event: events.OrderReport) -> None:
        if event.exchange_order_id and event.exchange_order_id not in self.order_ids:
            self.order_ids |= {event.exchange_order_id}
        if event.order_created_ns is not None:
            self.begun_ns = event.order_created_ns
        time_ns = event.transact_time_ns or 0
        if event.order_qty is not None:
            self.size = max(self.size or (-1, 0), (time_ns, event.order_qty))
        if not time_ns:
            return
        if event.cum_qty:
            self.filled = max(self.filled, (event.cum_qty, -time_ns))
        if event.ord_status in ENDS or event.exec_type in END_REPORTS:
            queried = isinstance(event, events.OrderStateObserved) and event.began_ns is not None
            if not self.is_reopened or queried or time_ns > self.newest_end_ns:
                self.ended_ns = time_ns if self.ended_ns is None else min(time_ns, self.ended_ns)
                self.newest_end_ns = max(time_ns, self.newest_end_ns)

    def reopen(self) -> None:
        """Forget the end of an order that is open again: trades after it are of its life."""
        self.ended_ns, self.is_reopened = None, True

    def holds(self, time_ns: int, *, margin_ns: int) -> bool:
        """Return whether an instant is between its begin and its end, or the report that it is filled."""
        cum_qty, filled_ns = self.filled
        is_filled = cum_qty and (self.size is None or cum_qty >= self.size[1])
        ends = [time for time in (self.ended_ns, -filled_ns if is_filled else None) if time is not None]
        return (self.begun_ns or 0) - margin_ns <= time_ns and (not ends or time_ns <= min(ends) + margin_ns)


Lives = dict[str, Life]
"""Those of one intent's orders, each by the client order id of its submit."""


def life_of(lives: Lives, name: str) -> Life:
    return lives.get(name) or lives.setdefault(name, Life())


def in_life(fill: Fill, lives: Lives) -> bool:
    """Return whether a fill is of the life of an order with its venue id, or counts at any time."""
    margin_ns, order_id = fill.margin_ns, fill.order_id
    if margin_ns is None or not fill.time_ns:
        return True
    return any(life.holds(fill.time_ns, margin_ns=margin_ns) for life in lives.values() if order_id in life.order_ids)


def fill_of(
    event: events.OrderFilled | events.FillCorrected, ref_fill_key: str | None, client_order_id: str | None
) -> Fill:
    sign = 1 if event.side is Side.BUY else -1
    return Fill(
        event.symbol_id, event.fill_key, sign * event.last_qty, event.last_px, event.transact_time_ns or 0, ref_fill_key,
        reported_fees(event), event.life_margin_ns, client_order_id, event.exchange_order_id,
    )  # fmt: skip


def reported_fees(event: events.OrderFilled | events.FillCorrected) -> dict[str, int] | None:
    if event.fees is None and event.fee is not None and event.fee_asset:
        return {event.fee_asset: event.fee}
    return event.fees if event.fee is None else {}


def newest(chain: list[Fill]) -> list[Fill]:
    """Return the fills that count of a trade and its corrections."""
    corrections = [fill for fill in chain if fill.ref_fill_key is not None]
    if not corrections:
        return chain
    corrected = {fill.ref_fill_key for fill in corrections}
    last = [fill for fill in corrections if fill.fill_key not in corrected] or corrections
    return [max(last, key=lambda fill: (fill.time_ns, fill.fill_key))]


def fills_of(orders: Iterable[OrderFacts]) -> Iterator[Fill]:
    """Yield the fills that the fold counts for orders."""
    for facts in orders:
        yield from counted_fills(facts, facts.counted_trades)


def counted_fills(facts: OrderFacts, trades: Iterable[TradeEntry]) -> Iterator[Fill]:
    sign = 1 if facts.order.side is Side.BUY else -1
    for entry in trades:
        yield Fill(
            facts.order.symbol_id, entry.fill_key, sign * entry.quantity, entry.price, entry.time_ns,
            entry.ref_fill_key, fees_of(entry),
        )  # fmt: skip


def fold_changes(before: Record, after: Record) -> list[Change]:
    """Return the changes of the fills that the fold counts."""
    if len(before.orders) == 1 == len(after.orders) and has_same_trades(before.orders[0], after.orders[0]):
        return []
    found: list[Change] = []
    known = {facts.place: facts for facts in before.orders}
    for facts in after.orders:
        old, trades = known.pop(facts.place, None), facts.counted_trades
        if old is facts:
            continue
        added = trades.since(old.counted_trades) if old is not None and old.order is facts.order else None
        if added is None and old is not None:
            found += [(-1, fill) for fill in fills_of((old,))]
        found += [(1, fill) for fill in counted_fills(facts, trades if added is None else added)]
    return [*found, *((-1, fill) for fill in fills_of(known.values()))]


class Accounts:
    """Compares recomputed positions and reported drifts with the folded state."""

    def __init__(self, problems: Problems, state: State) -> None:
        self._problems = problems
        self._state = state
        self._sums: dict[str, Sums] = {}
        self._moved: dict[str, int] = {}
        """Symbols traded since the last comparison, with the first position."""
        self._off: Counter[str] = Counter()
        """Observations of each drift that has no finding."""

    def moved(self, changes: Sequence[Change], excess: Iterable[str], position: int) -> None:
        """Record that an event changed the fills that count of an intent, and the symbols that the fold differs in."""
        add(self._sums, changes)
        for symbol_id in (*excess, *(fill.symbol_id for _, fill in changes)):
            self._moved.setdefault(symbol_id, position)

    def compare(self) -> None:
        """Compare the positions of the state, folded to the same event, with the totals of the fills."""
        if not self._moved:
            return
        positions = {item.symbol_id: item for item in self._state.positions()}
        for symbol_id, first in self._moved.items():
            ours, position = self._sums.get(symbol_id, Sums()).figures(), positions.get(symbol_id)
            cash = position.realized_pnl - position.cost if position is not None else 0
            fees = {asset: fee for asset, fee in position.fees.items() if fee} if position is not None else {}
            theirs = (position.quantity if position is not None else 0, cash, fees)
            if ours != theirs:
                text = f"the position in {symbol_id} is {theirs} (quantity, cash, fees), but its fills add up to {ours}"
                self._problems.add(ProblemKind.ACCOUNTING, first, text)
        self._moved.clear()

    def account_observed(self, position: int) -> None:
        """Check that each drift gets a finding within `OBSERVATIONS_MAX` account observations."""
        drifts = {finding_id(FindingKind.BALANCE_DRIFT, name): off for name, off in self._state.balance_drift().items()}
        drifts |= {
            finding_id(FindingKind.POSITION_DRIFT, name): off for name, off in self._state.position_drift().items()
        }
        for name in [*self._off]:
            if name not in drifts:
                del self._off[name]
        for name, off in drifts.items():
            if self._state.finding(name) is not None:
                continue
            self._off[name] += 1
            if self._off[name] == OBSERVATIONS_MAX:
                text = f"{name}: the venue's amount differs from the log's by {off:+d}, and no finding reports it"
                self._problems.add(ProblemKind.FINDING, position, text)

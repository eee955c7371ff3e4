"""Recompute quantities, cash and fees from the fills in a log, in plain integers.

Used by `intents` (fills of one intent) and `events` (positions and balances). It shares no code with the fold, so that a
mistake in either shows up as a difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from kernel import events
from kernel.lifecycle import Record, finding_id
from kernel.lifecycle.trades import fees_of
from kernel.models import AttemptKind, ExecType, FindingKind, OrdStatus
from kernel.order_spec import Side
from projections.state import State
from replay.formatting.problems import ProblemKind, Problems

ENDS = frozenset({OrdStatus.CANCELED, OrdStatus.EXPIRED, OrdStatus.REJECTED})
END_REPORTS = frozenset({ExecType.CANCELED, ExecType.EXPIRED, ExecType.REJECTED})
OBSERVATIONS_MAX = 3
"""Account observations after which a drift must have a finding. The kernel raises it right after an observation."""


class Fill(NamedTuple):
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
        """Return whether it is another report of the same trade: the ids of trades may begin again with those of orders."""
        if None not in (self.client_order_id, other.client_order_id) and self.client_order_id != other.client_order_id:
            return False
        margins = [item.margin_ns for item in (self, other) if item.margin_ns is not None]
        apart_ns = abs(self.time_ns - other.time_ns) if self.time_ns and other.time_ns else 0
        return not margins or apart_ns <= max(margins)


@dataclass
class Sums:
    """Totals of fills in one symbol."""

    quantity: int = 0
    cash: int = 0
    """Proceeds of sales minus cost of purchases."""
    fees: Counter[str] = field(default_factory=Counter)

    def add(self, fill: Fill) -> None:
        self.quantity += fill.signed_quantity
        self.cash -= fill.signed_quantity * fill.price
        self.fees.update(fill.fees or {})

    def figures(self) -> tuple[int, int, dict[str, int]]:
        return self.quantity, self.cash, {asset: fee for asset, fee in self.fees.items() if fee}


class Fills:
    """The fills of one intent."""

    def __init__(self) -> None:
        self._entries: list[Fill] = []
        self._by_identity: dict[tuple[str, int, int], list[int]] = {}
        """Indexes by key, size and price: another size or price under one key is another trade."""
        self.bounded = False
        """True if a fill counts only within its order's life."""
        self._void: set[str] = set()
        self._corrects: dict[str, str] = {}

    def apply(self, event: events.OrderReport, client_order_id: str | None = None) -> None:
        """Add a report; `client_order_id` is that of the submit of its order, if the report names the order by one."""
        match event:
            case events.FillBusted():
                self._void.add(event.ref_fill_key)
            case events.FillCorrected():
                self._corrects.setdefault(event.fill_key, event.ref_fill_key)
                self._enter(fill_of(event, event.ref_fill_key, client_order_id))
            case events.OrderFilled():
                self._enter(fill_of(event, None, client_order_id))

    def _enter(self, fill: Fill) -> None:
        self.bounded = self.bounded or fill.margin_ns is not None
        places = self._by_identity.setdefault((fill.fill_key, abs(fill.signed_quantity), fill.price), [])
        place = next((place for place in places if fill.repeats(self._entries[place])), None)
        if place is None:
            places.append(len(self._entries))
            self._entries.append(fill)
        elif fill.fees is not None:  # of a repeated report, the fees replace the known ones
            self._entries[place] = self._entries[place]._replace(fees=fill.fees)

    @property
    def is_clear(self) -> bool:
        """True if every correction refers to a known trade. Otherwise the fills that count are undefined."""
        trades = {fill.fill_key for fill in self._entries if fill.ref_fill_key is None}
        return all(self._root(name) in trades for name in self._corrects)

    def reused_keys(self) -> set[str]:
        """Return fill keys shared by different trades."""
        named = {
            (fill.fill_key, fill.client_order_id, *fill[2:5]) for fill in self._entries if fill.ref_fill_key is None
        }
        counts = Counter((key, client_order_id) for key, client_order_id, *_ in named)
        return {key for (key, _), count in counts.items() if count > 1}

    def _root(self, fill_key: str) -> str:
        seen = {fill_key}
        while (ref := self._corrects.get(fill_key)) is not None and ref not in seen:
            fill_key = ref
            seen.add(ref)
        return fill_key

    def _counted(self, lives: Lives) -> Iterator[Fill]:
        """Yield the fills that count: without busted trades and those outside a life, the newest correction of each."""
        entries = [fill for fill in self._entries if lives.hold(fill)] if self.bounded else self._entries
        if not self._void and not self._corrects:
            yield from entries
            return
        chains: dict[str, list[Fill]] = {}
        for fill in entries:
            chains.setdefault(self._root(fill.fill_key), []).append(fill)
        void = {self._root(key) for key in self._void}
        for root, chain in chains.items():
            if root not in void:
                yield from newest(chain)

    def sums(self, lives: Lives) -> dict[str, Sums]:
        return summed(self._counted(lives))


@dataclass
class Lives:
    """When the orders of one intent lived in venue time, from the reports that name them by a client order id."""

    begun: dict[str, int] = field(default_factory=dict)
    """Client order id of a submit to its first send, or to the creation that the venue told."""
    ended: dict[str, int] = field(default_factory=dict)
    """Client order id of a submit to the earliest end other than a fill that the venue told, since it was open last."""
    newest_ends: dict[str, int] = field(default_factory=dict)
    """The same to the newest end that was told at any time."""
    reopened: set[str] = field(default_factory=set)
    """Client order ids of submits whose order turned out to be open after an end: the venue may repeat that end (H21)."""
    named: dict[str, set[str]] = field(default_factory=dict)
    """Venue order id to the client order ids of the submits that have it."""

    filled: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Client order id of a submit to the largest total that was told, and when first (negated)."""
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Client order id of a submit to the venue time and size of its newest quantity."""

    def sent(self, event: events.AttemptStarted) -> None:
        if event.kind is AttemptKind.SUBMIT:
            self.begun.setdefault(event.client_order_id, event.stamp_ns)
            self.sizes.setdefault(event.client_order_id, (-1, event.order.quantity))

    def report(self, event: events.OrderReport, client_order_id: str | None) -> None:
        """Add a report; `client_order_id` is that of the submit of its order, if the report names the order by one."""
        if client_order_id is None:
            return
        if event.exchange_order_id:
            self.named.setdefault(event.exchange_order_id, set()).add(client_order_id)
        if event.order_created_ns is not None:
            self.begun[client_order_id] = event.order_created_ns
        time_ns = event.transact_time_ns or 0
        if event.order_qty is not None:
            self.sizes[client_order_id] = max(self.sizes.get(client_order_id, (-1, 0)), (time_ns, event.order_qty))
        if not time_ns:
            return
        if event.cum_qty:
            peak = self.filled.get(client_order_id, (0, 0))
            self.filled[client_order_id] = max(peak, (event.cum_qty, -time_ns))
        if event.ord_status in ENDS or event.exec_type in END_REPORTS:
            newest_ns = self.newest_ends.get(client_order_id, 0)
            queried = isinstance(event, events.OrderStateObserved) and event.began_ns is not None
            if client_order_id not in self.reopened or queried or time_ns > newest_ns:
                self.ended[client_order_id] = min(time_ns, self.ended.get(client_order_id, time_ns))
                self.newest_ends[client_order_id] = max(time_ns, newest_ns)

    def reopen(self, client_order_id: str) -> None:
        """Forget the end of an order that is open again: trades after it are of its life."""
        self.ended.pop(client_order_id, None)
        self.reopened.add(client_order_id)

    def end_of(self, client_order_id: str) -> int | None:
        """Return when an order ended or was filled, as far as the venue told."""
        cum_qty, filled_ns = self.filled.get(client_order_id, (0, 0))
        is_filled = cum_qty and cum_qty >= self.sizes.get(client_order_id, (0, 0))[1]
        ends = [self.ended.get(client_order_id), -filled_ns if is_filled else None]
        return min((time for time in ends if time is not None), default=None)

    def hold(self, fill: Fill) -> bool:
        """Return whether a fill is of the life of an order: of the one that it names, else of one with its venue id."""
        if fill.margin_ns is None or not fill.time_ns:
            return True
        return any(
            self.begun.get(name, 0) - fill.margin_ns <= fill.time_ns
            and ((ended_ns := self.end_of(name)) is None or fill.time_ns <= ended_ns + fill.margin_ns)
            for name in self.named.get(fill.order_id or "", ())
        )


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


def summed(fills: Iterable[Fill]) -> dict[str, Sums]:
    found: dict[str, Sums] = {}
    for fill in fills:
        found.setdefault(fill.symbol_id, Sums()).add(fill)
    return found


def fills_of(record: Record) -> Iterator[Fill]:
    """Yield the fills that the fold counts."""
    for facts in record.orders:
        sign = 1 if facts.order.side is Side.BUY else -1
        for entry in facts.counted_trades:
            yield Fill(
                facts.order.symbol_id, entry.fill_key, sign * entry.quantity, entry.price, entry.time_ns,
                entry.ref_fill_key, fees_of(entry),
            )  # fmt: skip


def figures(sums: dict[str, Sums]) -> dict[str, tuple[int, int, dict[str, int]]]:
    found = {symbol_id: item.figures() for symbol_id, item in sums.items()}
    return {symbol_id: item for symbol_id, item in found.items() if item != (0, 0, {})}


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

    def moved(self, before: dict[str, Sums], after: dict[str, Sums], position: int) -> None:
        """Record that an event changed the totals of an intent."""
        for sign, sums in ((-1, before), (1, after)):
            for symbol_id, item in sums.items():
                total = self._sums.setdefault(symbol_id, Sums())
                total.quantity += sign * item.quantity
                total.cash += sign * item.cash
                for asset, fee in item.fees.items():
                    total.fees[asset] += sign * fee
                self._moved.setdefault(symbol_id, position)

    def compare(self) -> None:
        """Compare the positions of the state, folded to the same event, with the totals of the fills."""
        if not self._moved:
            return
        positions = {item.symbol_id: item for item in self._state.positions()}
        for symbol_id, first in self._moved.items():
            ours, position = self._sums[symbol_id].figures(), positions.get(symbol_id)
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

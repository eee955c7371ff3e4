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
from kernel.models import FindingKind
from kernel.order_spec import Side
from projections.state import State
from replay.formatting.problems import ProblemKind, Problems

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
        self._entries: dict[tuple[str, int, int], Fill] = {}
        """By key, size and price: another size or price under one key is another trade."""
        self._void: set[str] = set()
        self._corrects: dict[str, str] = {}

    def apply(self, event: events.OrderReport) -> None:
        match event:
            case events.FillBusted():
                self._void.add(event.ref_fill_key)
            case events.FillCorrected():
                self._corrects.setdefault(event.fill_key, event.ref_fill_key)
                self._enter(event, event.ref_fill_key)
            case events.OrderFilled():
                self._enter(event, None)

    def _enter(self, event: events.OrderFilled | events.FillCorrected, ref_fill_key: str | None) -> None:
        identity = (event.fill_key, event.last_qty, event.last_px)
        known = self._entries.get(identity)
        fees = reported_fees(event)
        if known is not None:  # of a repeated report, the fees replace the known ones
            self._entries[identity] = known if fees is None else known._replace(fees=fees)
            return
        sign = 1 if event.side is Side.BUY else -1
        self._entries[identity] = Fill(
            event.symbol_id, event.fill_key, sign * event.last_qty, event.last_px, event.transact_time_ns or 0,
            ref_fill_key, fees,
        )  # fmt: skip

    @property
    def is_clear(self) -> bool:
        """True if every correction refers to a known trade. Otherwise the fills that count are undefined."""
        trades = {key for (key, _, _), fill in self._entries.items() if fill.ref_fill_key is None}
        return all(self._root(name) in trades for name in self._corrects)

    def reused_keys(self) -> set[str]:
        """Return fill keys shared by different trades."""
        counts = Counter(key for (key, _, _), fill in self._entries.items() if fill.ref_fill_key is None)
        return {key for key, count in counts.items() if count > 1}

    def _root(self, fill_key: str) -> str:
        seen = {fill_key}
        while (ref := self._corrects.get(fill_key)) is not None and ref not in seen:
            fill_key = ref
            seen.add(ref)
        return fill_key

    def _counted(self) -> Iterator[Fill]:
        """Yield the fills that count: without busted trades, and with the newest correction of each trade."""
        if not self._void and not self._corrects:
            yield from self._entries.values()
            return
        chains: dict[str, list[Fill]] = {}
        for fill in self._entries.values():
            chains.setdefault(self._root(fill.fill_key), []).append(fill)
        void = {self._root(key) for key in self._void}
        for root, chain in chains.items():
            if root not in void:
                yield from newest(chain)

    def sums(self) -> dict[str, Sums]:
        return summed(self._counted())


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

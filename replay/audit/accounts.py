"""The books kept once more, in plain integers: what fills, corrections and busts in the log come to.

Fed by `verify_intents` (the fills of each intent) and by `verifying` (positions and balances of the folded state). Nothing
here is shared with the fold: the fills that count are found anew from the events, so that a mistake in either is a problem.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from kernel import events
from kernel.lifecycle import Record, finding_id
from kernel.models import FindingKind
from kernel.order_spec import Side
from projections.state import State
from replay.formatting.problems import ProblemKind, Problems

OBSERVATIONS_MAX = 3
"""After how many looks at the account what is off must have been told: the kernel tells it right after each."""


class Fill(NamedTuple):
    """A trade, or a correction of one, as it is in the log."""

    symbol_id: str
    fill_key: str
    signed_quantity: int
    price: int
    time_ns: int
    ref_fill_key: str | None
    fee: int | None
    fee_asset: str | None


@dataclass
class Sums:
    """What fills come to in a symbol."""

    quantity: int = 0
    cash: int = 0
    """What came in by selling less what went out by buying."""
    fees: Counter[str] = field(default_factory=Counter)

    def add(self, fill: Fill, sign: int = 1) -> None:
        """Count a fill; with −1 no more."""
        self.quantity += sign * fill.signed_quantity
        self.cash -= sign * fill.signed_quantity * fill.price
        if fill.fee and fill.fee_asset:
            self.fees[fill.fee_asset] += sign * fill.fee

    def figures(self) -> tuple[int, int, dict[str, int]]:
        """Quantity, cash and fees."""
        return self.quantity, self.cash, {asset: fee for asset, fee in self.fees.items() if fee}


class Fills:
    """The fills of one intent."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, int, int], Fill] = {}
        """By key, size and price: the same again is the same, another size or price under one key is another."""
        self._void: set[str] = set()
        self._corrects: dict[str, str] = {}

    def apply(self, event: events.OrderReport) -> None:
        """A report of a trade, of a correction or of a bust."""
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
        if known is not None:  # the same trade again; at most it tells of its fee
            if known.fee is None:
                self._entries[identity] = known._replace(fee=event.fee, fee_asset=event.fee_asset)
            return
        sign = 1 if event.side is Side.BUY else -1
        self._entries[identity] = Fill(
            event.symbol_id, event.fill_key, sign * event.last_qty, event.last_px, event.transact_time_ns or 0,
            ref_fill_key, event.fee, event.fee_asset,
        )  # fmt: skip

    @property
    def is_clear(self) -> bool:
        """Whether each correction is of a trade that is known. One that is not leaves open what counts."""
        trades = {key for (key, _, _), fill in self._entries.items() if fill.ref_fill_key is None}
        return all(self._root(name) in trades for name in self._corrects)

    def reused_keys(self) -> set[str]:
        """Keys under which there are several different trades."""
        counts = Counter(key for (key, _, _), fill in self._entries.items() if fill.ref_fill_key is None)
        return {key for key, count in counts.items() if count > 1}

    def _root(self, fill_key: str) -> str:
        seen = {fill_key}
        while (ref := self._corrects.get(fill_key)) is not None and ref not in seen:
            fill_key = ref
            seen.add(ref)
        return fill_key

    def counted(self) -> Iterator[Fill]:
        """Those that count: nothing that was busted, and of what was corrected the newest correction."""
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
        """What they come to, by symbol."""
        return summed(self.counted())


def newest(chain: list[Fill]) -> list[Fill]:
    """What counts of a trade and its corrections: all that is there under its key, or the last correction."""
    corrections = [fill for fill in chain if fill.ref_fill_key is not None]
    if not corrections:
        return chain
    corrected = {fill.ref_fill_key for fill in corrections}
    last = [fill for fill in corrections if fill.fill_key not in corrected] or corrections
    return [max(last, key=lambda fill: (fill.time_ns, fill.fill_key))]


def summed(fills: Iterable[Fill]) -> dict[str, Sums]:
    """What fills come to, by symbol."""
    found: dict[str, Sums] = {}
    for fill in fills:
        found.setdefault(fill.symbol_id, Sums()).add(fill)
    return found


def fills_of(record: Record) -> Iterator[Fill]:
    """The fills that count as the fold has them."""
    for facts in record.orders:
        sign = 1 if facts.order.side is Side.BUY else -1
        for entry in facts.counted_trades:
            yield Fill(
                facts.order.symbol_id, entry.fill_key, sign * entry.quantity, entry.price, entry.time_ns,
                entry.ref_fill_key, entry.fee, entry.fee_asset,
            )  # fmt: skip


def figures(sums: dict[str, Sums]) -> dict[str, tuple[int, int, dict[str, int]]]:
    """Sums to compare: without the symbols in which nothing is left."""
    found = {symbol_id: item.figures() for symbol_id, item in sums.items()}
    return {symbol_id: item for symbol_id, item in found.items() if item != (0, 0, {})}


class Accounts:
    """Positions and balances of one log, against those of the state that is folded from it."""

    def __init__(self, problems: Problems, state: State) -> None:
        self._problems = problems
        self._state = state
        self._sums: dict[str, Sums] = {}
        self._moved: dict[str, int] = {}
        """Symbols in which something was traded since the books were last compared, and where first."""
        self._off: Counter[str] = Counter()
        """Findings that should have been raised, and how many looks at the account have shown that since."""

    def moved(self, before: dict[str, Sums], after: dict[str, Sums], position: int) -> None:
        """An event changed what the fills of an intent come to."""
        for sign, sums in ((-1, before), (1, after)):
            for symbol_id, item in sums.items():
                total = self._sums.setdefault(symbol_id, Sums())
                total.quantity += sign * item.quantity
                total.cash += sign * item.cash
                for asset, fee in item.fees.items():
                    total.fees[asset] += sign * fee
                self._moved.setdefault(symbol_id, position)

    def compare(self) -> None:
        """The state is as far as the events: its positions must be what the fills come to."""
        if not self._moved:
            return
        positions = {item.symbol_id: item for item in self._state.positions()}
        for symbol_id, first in self._moved.items():
            ours, shown = self._sums[symbol_id].figures(), positions.get(symbol_id)
            cash = shown.realized_pnl - shown.cost if shown is not None else 0
            fees = {asset: fee for asset, fee in shown.fees.items() if fee} if shown is not None else {}
            theirs = (shown.quantity if shown is not None else 0, cash, fees)
            if ours != theirs:
                come_to = f"from here on the fills in {symbol_id} come to (quantity, cash, fees) {ours}"
                text = f"{come_to}, the position has {theirs}"
                self._problems.add(ProblemKind.ACCOUNTING, first, text)
        self._moved.clear()

    def account_observed(self, position: int) -> None:
        """The account was looked at, and the state has it: what is off must have been told by the looks that follow."""
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
                text = f"{name}: what the venue has is {off:+d} off what the log comes to, and no finding says so"
                self._problems.add(ProblemKind.FINDING, position, text)

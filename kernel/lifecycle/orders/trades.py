"""The known trades of one order: an immutable sequence to which adding a trade takes constant time.

Used by `order_facts`, and by the ledger, which books the trades that one value has beyond another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol, Self

from kernel.lifecycle.orders.shared_sequence import SharedSequence


class HasFees(Protocol):
    """A venue's report of a trade, its event, or its entry."""

    @property
    def fee(self) -> int | None: ...
    @property
    def fee_asset(self) -> str | None: ...
    @property
    def fees(self) -> Mapping[str, int] | tuple[tuple[str, int], ...] | None: ...


def fees_of(trade: HasFees) -> dict[str, int] | None:
    """Return the fees of a trade by asset, at the assets' scales; None if the venue has not reported them."""
    if trade.fees is not None:
        return dict(trade.fees)
    if trade.fee is None:
        return None
    return {} if trade.fee_asset is None else {trade.fee_asset: trade.fee}


class TradeEntry(NamedTuple):
    """A trade, or the correction of a trade."""

    fill_key: str
    quantity: int
    price: int
    time_ns: int
    ref_fill_key: str | None
    """Key of the entry that this one corrects."""
    fee: int | None
    fee_asset: str | None
    fees: tuple[tuple[str, int], ...] | None = None
    """(asset, fee) of each, where the venue reports several; sorted."""
    margin_ns: int | None = None
    """How far outside the order's life it may be and still count; None for a trade that counts at any time."""

    @property
    def identity(self) -> tuple[str, int, int]:
        """Equal for repeats of one trade; two identities under one fill key are a finding, and both count."""
        return (self.fill_key, self.quantity, self.price)

    def repeats(self, other: TradeEntry) -> bool:
        """Return whether it is the same trade as another; where order ids are given again, so are trade ids."""
        if self.identity != other.identity:
            return False
        margins = [item.margin_ns for item in (self, other) if item.margin_ns is not None]
        if not margins or not (self.time_ns and other.time_ns):
            return True
        return abs(self.time_ns - other.time_ns) <= max(margins)


class Trades(SharedSequence[TradeEntry]):
    """Entries in order of arrival, and their sums."""

    __slots__ = ("bounded", "corrected", "notional", "quantity")

    def __init__(self, entries: Iterable[TradeEntry] = ()) -> None:
        self.quantity = 0
        """Sum of quantities."""
        self.notional = 0
        """Sum of quantity × price."""
        self.corrected = False
        """True if an entry is a correction."""
        self.bounded = False
        """True if an entry counts only within the order's life."""
        super().__init__(entries)

    @classmethod
    def entry_type(cls, source: Any) -> Any:
        return TradeEntry

    def _copy(self) -> Self:
        copy: Self = object.__new__(type(self))
        copy._entries, copy._count = self._entries, self._count
        copy.quantity, copy.notional = self.quantity, self.notional
        copy.corrected, copy.bounded = self.corrected, self.bounded
        return copy

    def _take(self, entry: TradeEntry) -> None:
        super()._take(entry)
        self.quantity += entry.quantity
        self.notional += entry.quantity * entry.price
        if entry.ref_fill_key is not None:
            self.corrected = True
        if entry.margin_ns is not None:
            self.bounded = True

    def with_fees_of(self, known: TradeEntry, entry: TradeEntry) -> Trades:
        merged = known._replace(fee=entry.fee, fee_asset=entry.fee_asset, fees=entry.fees)
        return Trades(merged if item is known else item for item in self)

    def same_as(self, entry: TradeEntry) -> TradeEntry | None:
        return next((known for known in self.under(entry.fill_key) if known.repeats(entry)), None)

    def since(self, known: Trades) -> list[TradeEntry] | None:
        """Return the entries after all of `known`; None if these do not begin with those."""
        begun = self._entries is known._entries or self._entries[: known._count] == known._entries[: known._count]
        return self._entries[known._count : self._count] if begun and known._count <= self._count else None

    def reused_keys(self) -> list[str]:
        if self._count < 2 or len(self._entries.places) == len(self._entries):
            return []
        keys = [entry.fill_key for entry in self]
        if len(set(keys)) == len(keys):
            return []
        return sorted(key for key, count in Counter(keys).items() if count > 1)


NO_TRADES = Trades()

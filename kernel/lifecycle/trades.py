"""The known trades of one order: an immutable sequence to which adding a trade takes constant time.

Used by `order_facts`, and by the ledger, which books the trades that one value has beyond another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol


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


class Trades:
    """Entries in order of arrival.

    A value and those that grew from it share one list and see its first `_count` entries. Only the longest may append to
    the list; a shorter one copies it first.
    """

    __slots__ = ("_by_key", "_count", "_entries", "bounded", "corrected", "notional", "quantity")

    def __init__(self, entries: Iterable[TradeEntry] = ()) -> None:
        self._entries: list[TradeEntry] = []
        self._by_key: dict[str, tuple[int, ...]] = {}
        """Fill key → indexes in the list; shared like the list."""
        self._count = 0
        self.quantity = 0
        """Sum of quantities."""
        self.notional = 0
        """Sum of quantity × price."""
        self.corrected = False
        """True if an entry is a correction."""
        self.bounded = False
        """True if an entry counts only within the order's life."""
        for entry in entries:
            self._take(entry)

    def _take(self, entry: TradeEntry) -> None:
        """Include the next entry of the list, appending it if needed."""
        if self._count == len(self._entries):
            self._entries.append(entry)
            self._by_key[entry.fill_key] = (*self._by_key.get(entry.fill_key, ()), self._count)
        self._count += 1
        self.quantity += entry.quantity
        self.notional += entry.quantity * entry.price
        self.corrected = self.corrected or entry.ref_fill_key is not None
        self.bounded = self.bounded or entry.margin_ns is not None

    def plus(self, entry: TradeEntry) -> Trades:
        """Return these entries and one more."""
        entries, count = self._entries, self._count
        if not count or (count < len(entries) and entries[count] != entry):
            return Trades((*self, entry))
        grown = Trades.__new__(Trades)
        grown._entries, grown._by_key, grown._count = entries, self._by_key, count
        grown.quantity, grown.notional = self.quantity, self.notional
        grown.corrected, grown.bounded = self.corrected, self.bounded
        grown._take(entry)
        return grown

    def with_fees_of(self, known: TradeEntry, entry: TradeEntry) -> Trades:
        merged = known._replace(fee=entry.fee, fee_asset=entry.fee_asset, fees=entry.fees)
        return Trades(merged if item is known else item for item in self)

    def same_as(self, entry: TradeEntry) -> TradeEntry | None:
        places = self._by_key.get(entry.fill_key, ())
        same = (self._entries[place] for place in places if place < self._count)
        return next((known for known in same if known.repeats(entry)), None)

    def since(self, known: Trades) -> list[TradeEntry] | None:
        """Return the entries after all of `known`; None if these do not begin with those."""
        begun = self._entries is known._entries or self._entries[: known._count] == known._entries[: known._count]
        return self._entries[known._count : self._count] if begun and known._count <= self._count else None

    def reused_keys(self) -> list[str]:
        if len(self._by_key) == len(self._entries):
            return []
        return sorted(key for key, places in self._by_key.items() if len(places) > 1 and places[1] < self._count)

    def __iter__(self) -> Iterator[TradeEntry]:
        return iter(self._entries[: self._count])

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> TradeEntry:
        return self._entries[: self._count][place]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Trades):
            return NotImplemented
        return self._count == other._count and (self._entries is other._entries or [*self] == [*other])

    def __hash__(self) -> int:
        return hash((*self,))

    def __repr__(self) -> str:
        return f"Trades({[*self]!r})"


NO_TRADES = Trades()

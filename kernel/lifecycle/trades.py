"""The trades known of one order: a value that grows cheaply.

Used by `facts`, and by the ledger, which books what one value has more than another. Like a tuple it never changes, but one
more trade costs the same however many there are, so that an order of ten thousand fills is folded as fast as one of ten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema


class TradeEntry(NamedTuple):
    """One trade, or one correction of a trade."""

    fill_key: str
    quantity: int
    price: int
    time_ns: int
    ref_fill_key: str | None
    """The entry that this one corrects."""
    fee: int | None
    fee_asset: str | None

    @property
    def identity(self) -> tuple[str, int, int]:
        """Two entries of one identity are one trade; two identities under one fill key are a finding, and both count."""
        return (self.fill_key, self.quantity, self.price)


class Trades:
    """Entries in the order in which they came to be known.

    A value and those that grew from it share one list, of which each sees as much as it had when it was made. Only the
    longest may add to that list; one that was left behind by another addition takes a copy first.
    """

    __slots__ = ("_by_key", "_count", "_entries", "corrected", "notional", "quantity")

    def __init__(self, entries: Iterable[TradeEntry] = ()) -> None:
        self._entries: list[TradeEntry] = []
        self._by_key: dict[str, tuple[int, ...]] = {}
        """Fill key → where in the list; shared like the list."""
        self._count = 0
        self.quantity = 0
        """Sum of quantities."""
        self.notional = 0
        """Sum of quantity × price."""
        self.corrected = False
        """Whether one of them is a correction."""
        for entry in entries:
            self._take(entry)

    def _take(self, entry: TradeEntry) -> None:
        """See one more: the next of the list, which is added where it is not there yet."""
        if self._count == len(self._entries):
            self._entries.append(entry)
            self._by_key[entry.fill_key] = (*self._by_key.get(entry.fill_key, ()), self._count)
        self._count += 1
        self.quantity += entry.quantity
        self.notional += entry.quantity * entry.price
        self.corrected = self.corrected or entry.ref_fill_key is not None

    def plus(self, entry: TradeEntry) -> Trades:
        """These and one more."""
        entries, count = self._entries, self._count
        if not count or (count < len(entries) and entries[count] != entry):
            return Trades((*self, entry))
        grown = Trades.__new__(Trades)
        grown._entries, grown._by_key, grown._count = entries, self._by_key, count
        grown.quantity, grown.notional, grown.corrected = self.quantity, self.notional, self.corrected
        grown._take(entry)
        return grown

    def with_fee_of(self, known: TradeEntry, entry: TradeEntry) -> Trades:
        """These, of which one that was known without its fee has another's."""
        merged = known._replace(fee=entry.fee, fee_asset=entry.fee_asset)
        return Trades(merged if item is known else item for item in self)

    def same_as(self, entry: TradeEntry) -> TradeEntry | None:
        """The entry of the same identity."""
        places = self._by_key.get(entry.fill_key, ())
        same = (self._entries[place] for place in places if place < self._count)
        return next((known for known in same if known.identity == entry.identity), None)

    def since(self, known: Trades) -> list[TradeEntry] | None:
        """The entries that came after all of `known`; None where these do not begin with those."""
        begun = self._entries is known._entries or self._entries[: known._count] == known._entries[: known._count]
        return self._entries[known._count : self._count] if begun and known._count <= self._count else None

    def reused_keys(self) -> list[str]:
        """Fill keys that several of them have."""
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

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """In a checkpoint: a list of entries."""
        entries = handler.generate_schema(tuple[TradeEntry, ...])
        return core_schema.no_info_after_validator_function(
            cls, entries, serialization=core_schema.plain_serializer_function_ser_schema(tuple, return_schema=entries)
        )


NO_TRADES = Trades()

"""The base of what is folded, and a sequence that grows in constant time, with what msgspec needs to store it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import GenericAlias
from typing import Any, ClassVar, Generic, Self, TypeVar, get_args, get_origin

import msgspec

Entry = TypeVar("Entry")


class Facts(msgspec.Struct, frozen=True, omit_defaults=True):
    """Base of what is folded from events. It is stored in checkpoints only, which leave the defaults out."""


class Entries(list[Entry]):
    """The list that sequences share."""

    places: dict[str, tuple[int, ...]] = {}  # noqa: RUF012 -- replaced, never changed
    """Key → indexes in the list, once it is long."""


class SharedSequence(Generic[Entry]):
    """An immutable sequence of tuples, each found by its first item, to which adding one takes constant time.

    A value and those that grew from it share one list and see its first `_count` entries. Only the longest may append to
    the list; a shorter one copies it first.
    """

    __slots__ = ("_count", "_entries")
    short: ClassVar[int] = 8
    """The most entries that are searched one by one; a longer list has a dictionary of their places."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries: Entries[Entry] = Entries()
        self._count = 0
        for entry in entries:
            self._take(entry)

    def keys_of(self, entry: Entry) -> Iterable[str]:
        """Return what an entry is found by."""
        given: Any = entry
        return (given[0],)

    def _take(self, entry: Entry) -> None:
        """Include the next entry of the list, appending it if needed."""
        entries, count = self._entries, self._count
        if count == len(entries):
            entries.append(entry)
            if count >= self.short:
                places = entries.places = entries.places or {}
                for place in (count,) if places else range(count + 1):
                    for key in self.keys_of(entries[place]):
                        places[key] = (*places.get(key, ()), place)
        self._count = count + 1

    def plus(self, entry: Entry) -> Self:
        entries, count = self._entries, self._count
        if count < len(entries) and entries[count] != entry:
            return type(self)((*self, entry))
        grown = self._copy()
        if not count:
            grown._entries = Entries()
        grown._take(entry)
        return grown

    def _copy(self) -> Self:
        """Return an equal value that shares the list."""
        copy: Self = object.__new__(type(self))
        copy._entries, copy._count = self._entries, self._count
        return copy

    def under(self, key: str) -> list[Entry]:
        """Return the entries with a key, oldest first."""
        entries: Any = self._entries
        if len(entries) <= self.short:
            return [entry for entry in entries[: self._count] if entry[0] == key]
        return [entries[place] for place in entries.places.get(key, ()) if place < self._count]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries[: self._count])

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> Entry:
        return self._entries[: self._count][place]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return self._count == other._count and (self._entries is other._entries or [*self] == [*other])

    def __hash__(self) -> int:
        return hash((*self,))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({[*self]!r})"

    @classmethod
    def entry_type(cls, source: Any) -> Any:
        """Return the type of the entries of this class, annotated as `source`."""
        return get_args(source)[0]


def as_list(value: object) -> object:
    """Return a shared sequence as a list: msgspec does not know the type."""
    if isinstance(value, SharedSequence):
        return list(value)
    raise TypeError(f"a {type(value).__name__} cannot be stored")


def from_list(kind: Any, entries: object) -> object:
    """Return a shared sequence of the type `kind`."""
    sequence = get_origin(kind) or kind
    return sequence(msgspec.convert(entries, GenericAlias(list, (sequence.entry_type(kind),)), dec_hook=from_list))

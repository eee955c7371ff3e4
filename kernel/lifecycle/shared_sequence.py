"""The base of what is folded, and a sequence that grows in constant time, with what msgspec needs to store it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from types import GenericAlias
from typing import Any, Generic, Self, TypeVar, get_args, get_origin

import msgspec

Entry = TypeVar("Entry")


class Facts(msgspec.Struct, frozen=True, omit_defaults=True):
    """Base of what is folded from events. It is stored in checkpoints only, which leave the defaults out."""


class SharedSequence(Generic[Entry]):
    """An immutable sequence of tuples, each found by its first item, to which adding one takes constant time.

    A value and those that grew from it share one list and see its first `_count` entries. Only the longest may append to
    the list; a shorter one copies it first.
    """

    __slots__ = ("_count", "_entries", "_places")

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries: list[Entry] = []
        self._places: dict[str, tuple[int, ...]] = {}
        """Key → indexes in the list; shared like the list."""
        self._count = 0
        for entry in entries:
            self._take(entry)

    def keys_of(self, entry: Entry) -> Iterable[str]:
        """Return what an entry is found by."""
        given: Any = entry
        return (given[0],)

    def _take(self, entry: Entry) -> None:
        """Include the next entry of the list, appending it if needed."""
        if self._count == len(self._entries):
            self._entries.append(entry)
            for key in self.keys_of(entry):
                self._places[key] = (*self._places.get(key, ()), self._count)
        self._count += 1

    def plus(self, entry: Entry) -> Self:
        entries, count = self._entries, self._count
        if not count or (count < len(entries) and entries[count] != entry):
            return type(self)((*self, entry))
        grown = self._copy()
        grown._take(entry)
        return grown

    def _copy(self) -> Self:
        """Return an equal value that shares the list."""
        kind: Any = type(self)
        copy: Self = object.__new__(kind)
        for name in slot_names(kind):
            object.__setattr__(copy, name, getattr(self, name))
        return copy

    def under(self, key: str) -> list[Entry]:
        """Return the entries with a key, oldest first."""
        places = self._places.get(key, ())
        return [self._entries[place] for place in places if place < self._count] if places else []

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


@cache
def slot_names(kind: type[object]) -> tuple[str, ...]:
    return tuple(name for base in kind.__mro__ for name in getattr(base, "__slots__", ()))


def as_list(value: object) -> object:
    """Return a shared sequence as a list: msgspec does not know the type."""
    if isinstance(value, SharedSequence):
        return list(value)
    raise TypeError(f"a {type(value).__name__} cannot be stored")


def from_list(kind: Any, entries: object) -> object:
    """Return a shared sequence of the type `kind`."""
    sequence = get_origin(kind) or kind
    return sequence(msgspec.convert(entries, GenericAlias(list, (sequence.entry_type(kind),)), dec_hook=from_list))

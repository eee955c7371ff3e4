"""Fast copies of frozen dataclasses with some fields changed; sequences that grow in constant time.

Used throughout the lifecycle, several times per folded event. `replace` does what `dataclasses.replace` does for a
dataclass without slots or `__post_init__`, at a fraction of the cost. Structs have `msgspec.structs.replace`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from typing import Any, Generic, Self, TypeVar, get_args

Value = TypeVar("Value")
Entry = TypeVar("Entry")


def replace(value: Value, /, **changes: object) -> Value:
    """Return a copy of a dataclass instance with these fields changed."""
    kind: Any = type(value)
    copied = value.__dict__.copy()  # which shares its keys with the original, as the dicts of instances do
    for name in cached_names(kind):
        copied.pop(name, None)
    copied.update(changes)
    assert changes.keys() <= kind.__dataclass_fields__.keys(), "only fields can change"
    copy: Value = object.__new__(kind)
    object.__setattr__(copy, "__dict__", copied)
    return copy


def assign_fresh(fresh: object, /, **changes: object) -> None:
    """Change fields of a value that `replace` has just returned and nobody else holds; saves a copy.

    No cached property that depends on these fields may have been read.
    """
    known = fresh.__dict__
    assert changes.keys() <= known.keys(), "only fields can change"
    known.update(changes)


@cache
def cached_names(kind: type[object]) -> tuple[str, ...]:
    """Return the names of a class's cached properties, which a copy must not take over."""
    return tuple(name for name in dir(kind) if isinstance(getattr(kind, name, None), cached_property))


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
        """Return these entries and one more."""
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

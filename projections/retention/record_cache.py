"""The records that a state holds: the newest unpacked, all others as bytes. Used by `StateData`.

It behaves like any mapping; which records are packed is not part of the state.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, MutableMapping

from kernel.lifecycle import Record
from projections.retention.codec import decode, encode


class Records(MutableMapping[str, Record]):
    """Intent id to record, in order of first sight."""

    def __init__(self, unpacked_max: int) -> None:
        """Hold at most `unpacked_max` records unpacked. An event of a packed one takes nearly twice as long."""
        self._unpacked_max = unpacked_max
        self._held: dict[str, bytes | Record | None] = {}
        """Each record packed; None if it has changed since; unpacked if it cannot be packed."""
        self._fresh: OrderedDict[str, Record] = OrderedDict()
        """Records that were changed or read last."""

    def __getitem__(self, intent_id: str) -> Record:
        if (found := self._fresh.get(intent_id)) is not None:
            return found
        record = decoded_record(self._held[intent_id])
        self._keep_fresh(intent_id, record)
        return record

    def get(self, intent_id: str, default: Record | None = None) -> Record | None:  # type: ignore[override]
        """Override the mixin's, which is slower: this is called for each event."""
        if (found := self._fresh.get(intent_id)) is not None:
            return found
        return self[intent_id] if intent_id in self._held else default

    def __setitem__(self, intent_id: str, record: Record) -> None:
        self._held[intent_id] = None
        self._keep_fresh(intent_id, record)

    def __delitem__(self, intent_id: str) -> None:
        del self._held[intent_id]
        self._fresh.pop(intent_id, None)

    def __contains__(self, intent_id: object) -> bool:
        return intent_id in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def as_now(self) -> Collection[Record]:
        """The records as they are now; may be iterated later, in any thread, while the mapping changes."""
        return RecordView(tuple(self._held[name] or self._fresh[name] for name in self._held))

    def _keep_fresh(self, intent_id: str, record: Record) -> None:
        self._fresh[intent_id] = record
        if len(self._fresh) <= self._unpacked_max:
            return
        oldest, record = self._fresh.popitem(last=False)
        if self._held[oldest] is None:
            self._held[oldest] = encoded_record(record)


class RecordView(Collection[Record]):
    """Records of one instant."""

    def __init__(self, items: tuple[bytes | Record, ...]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Record]:
        return map(decoded_record, self._items)

    def __contains__(self, record: object) -> bool:
        return any(record == item for item in self)


def encoded_record(record: Record) -> bytes | Record:
    """A record, packed if possible: an adapter may have put a subclass of `str` into it, which `marshal` refuses."""
    try:
        return encode(record)
    except ValueError:
        return record


def decoded_record(held: bytes | Record | None) -> Record:
    assert held is not None, "a changed record is among the fresh ones"
    if isinstance(held, Record):
        return held
    record: Record = decode(Record, held)
    return record

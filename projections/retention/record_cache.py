"""The records of all intents that a state holds: the newest as they are, all others packed.

Kept by `StatusRule`. A mapping like any other: who asks for a record gets it, whichever way it is held. What is asked
for or changed is held as it is until so many others were; nothing of this is part of the state's meaning."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, MutableMapping

from kernel.lifecycle import Record
from projections.retention.codec import decode, encode


class Records(MutableMapping[str, Record]):
    """Intent → its record, in order of first sight."""

    def __init__(self, unpacked_max: int) -> None:
        """`unpacked_max`: how many are held as they are, at most. An event of a packed one takes nearly twice as long."""
        self._unpacked_max = unpacked_max
        self._held: dict[str, bytes | Record | None] = {}
        """Each record, packed; None for one that has changed since; as it is where it can't be packed."""
        self._fresh: OrderedDict[str, Record] = OrderedDict()
        """Those that were changed or asked for last."""

    def __getitem__(self, intent_id: str) -> Record:
        if (found := self._fresh.get(intent_id)) is not None:
            return found
        record = decoded_record(self._held[intent_id])
        self._keep_fresh(intent_id, record)
        return record

    def get(self, intent_id: str, default: Record | None = None) -> Record | None:  # type: ignore[override]
        """The record of an intent; this is asked for each event."""
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
        """All of them as they are now, to be gone through later, in whichever thread, while these go on."""
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
    """A record, packed if it can be: a venue's adapter may have put in what only looks like text."""
    try:
        return encode(record)
    except ValueError:
        return record


def decoded_record(held: bytes | Record | None) -> Record:
    """A record as it is."""
    assert held is not None, "a record that has changed is among the fresh ones"
    if isinstance(held, Record):
        return held
    record: Record = decode(Record, held)
    return record

"""Tables of events, orders and fills for spreadsheets and data frames. Used by `exporter`.

Timestamps have two columns, integer nanoseconds and text in UTC; prices and quantities have two, exact decimals (empty if
the symbol is unknown) and the stored integers. Amounts too large for a decimal column are text.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec

from kernel import events
from kernel.lifecycle.evolve import evolve
from kernel.lifecycle.record import Record, order_state
from kernel.log.base import EventLog, StoredRow
from kernel.log.engine.records import event_of
from kernel.models import OrderIntent
from kernel.order_spec import SymbolMetadata, from_scaled
from projections.folds.reference import Reference
from replay.formatting.decimals import decimal_text
from replay.formatting.output import utc
from replay.formatting.progress_bar import Progress
from replay.log_access.bookings import BookEntry, entries, learn
from replay.log_access.log_reader import checked_pages

Rows = AsyncIterator[list[tuple[Any, ...]]]
DELETED = "DELETED"


class FieldType(Enum):
    """The type of a column. Every column is nullable."""

    INTEGER = "int64"
    UNSIGNED = "uint64"
    WHOLE = "decimal128(38, 0)"
    """A signed integer of more than 64 bits."""
    DECIMAL = "decimal128(38, 18)"
    TEXT = "string"


class ExportTable(msgspec.Struct, frozen=True):
    """Columns, and a function that reads the rows of a log up to a position, in pages."""

    columns: tuple[tuple[str, FieldType], ...]
    rows: Callable[[EventLog, int, Progress | None], Rows]


def timestamp(name: str) -> tuple[tuple[str, FieldType], ...]:
    return ((f"{name}_ns", FieldType.INTEGER), (name, FieldType.TEXT))


def scaled(name: str, kind: FieldType = FieldType.UNSIGNED) -> tuple[tuple[str, FieldType], ...]:
    return ((name, FieldType.DECIMAL), (f"{name}_scaled", kind))


def texts(*names: str) -> tuple[tuple[str, FieldType], ...]:
    return tuple((name, FieldType.TEXT) for name in names)


EVENT_COLUMNS = (
    ("position", FieldType.INTEGER),
    *texts("stream_id"),
    ("version", FieldType.INTEGER),
    *texts("topic"),
    ("schema_version", FieldType.INTEGER),
    *timestamp("recorded_at"),
    *texts("actor", "evidence", "correlation_id"),
    ("causation_position", FieldType.INTEGER),
    *texts("command_id"),
    ("command_index", FieldType.INTEGER),
    *texts("meta", "state", "leaf_hash", "chain_hash"),
)


async def event_rows(log: EventLog, upto: int, progress: Progress | None) -> Rows:
    """Yield a row for each event, with the stored payload and envelope as text."""
    async for rows in checked_pages(log, upto=upto, progress=progress):
        yield [_event_row(row) for row in rows]


def _event_row(row: StoredRow) -> tuple[Any, ...]:
    origin = json.loads(row.meta)
    return (
        row.position, row.stream_id, row.version, row.topic, row.schema_version, row.recorded_at_ns,
        _utc(row.recorded_at_ns), origin.get("actor"), origin.get("evidence"), origin.get("correlation_id"),
        origin.get("causation_position"), row.command_id.hex(), row.command_index, row.meta.decode(),
        row.state.decode(), row.leaf_hash.hex(), row.chain_hash.hex(),
    )  # fmt: skip


FILL_COLUMNS = (
    ("position", FieldType.INTEGER),
    *timestamp("recorded_at"),
    *timestamp("transact_time"),
    *texts("kind", "owner", "intent_id", "symbol_id", "side"),
    *scaled("quantity", FieldType.WHOLE),
    *scaled("price"),
    *texts("fee", "fee_scaled", "fee_asset", "liquidity"),
    *texts("exchange_order_id", "client_order_id", "fill_key", "ref_fill_key"),
)


async def fill_rows(log: EventLog, upto: int, progress: Progress | None) -> Rows:
    """Yield a row for each counted trade and, with a negative quantity, for each that a bust or correction voids."""
    reference = Reference()
    async for page in entries(log, reference, upto=upto, progress=progress):
        yield [_fill_row(entry, reference) for entry in page]


def _fill_row(entry: BookEntry, reference: Reference) -> tuple[Any, ...]:
    event, booking = entry.event, entry.booking
    symbol = reference.symbol(booking.symbol_id)
    venue_ns: int | None = getattr(event, "transact_time_ns", None)
    return (
        event.position, event.recorded_at_ns, _utc(event.recorded_at_ns), venue_ns, _utc(venue_ns),
        entry.kind, entry.owner, entry.intent_id, booking.symbol_id, entry.side.value,
        _quantity(symbol, entry.quantity), entry.quantity, _price(symbol, booking.price), booking.price,
        *_fee(entry, reference), booking.fee_asset, _word(getattr(event, "liquidity", None)),
        getattr(event, "exchange_order_id", None), getattr(event, "client_order_id", None),
        getattr(event, "fill_key", None), getattr(event, "ref_fill_key", None),
    )  # fmt: skip


def _fee(entry: BookEntry, reference: Reference) -> tuple[str | None, str | None]:
    asset_id, fee = entry.booking.fee_asset, entry.booking.fee
    if asset_id is None:
        return None, None
    asset = reference.asset(asset_id)
    return None if asset is None else decimal_text(from_scaled(fee, decimals=asset.decimals)), str(fee)


ORDER_COLUMNS = (
    *texts("intent_id", "owner", "group_id", "symbol_id", "side", "order_type", "time_in_force"),
    *scaled("quantity"),
    *scaled("price"),
    *scaled("stop_price"),
    *texts("desired"),
    ("generation", FieldType.INTEGER),
    *timestamp("created_at"),
    *timestamp("updated_at"),
    *texts("ord_status"),
    *scaled("cum_qty"),
    *scaled("leaves_qty"),
    *scaled("avg_px"),
    *texts("cum_notional", "cum_notional_scaled", "exchange_order_id", "client_order_id"),
)


async def order_rows(log: EventLog, upto: int, progress: Progress | None) -> Rows:
    """Yield a row for each intent in order of creation: its last terms, and its order's state at the position.

    Each intent's stream is read at its first event, so that memory holds one intent.
    """
    reference = Reference()
    async for rows in checked_pages(log, upto=upto, progress=progress):
        found = []
        for row in rows:
            if row.topic in (events.SymbolObserved.topic, events.AssetObserved.topic):
                learn(reference, event_of(row))
            elif row.version == 1 and row.stream_id.startswith(events.INTENT_STREAM_PREFIX):
                record, intent = await _intent_at(log, row.stream_id, upto)
                cells = *_intent_cells(record, intent, reference), *_state_cells(record, reference)
                found.append((record.intent_id, *cells))
        if found:
            yield found


async def _intent_at(log: EventLog, stream_id: str, upto: int) -> tuple[Record, OrderIntent | None]:
    """Return an intent's record at a position, and its last terms even if it is deleted."""
    record = Record(stream_id.removeprefix(events.INTENT_STREAM_PREFIX))
    intent = None
    for event in await log.read_stream(stream_id):
        if event.position > upto:
            break
        record = evolve(record, event)
        intent = record.intent or intent
    return record, intent


def _intent_cells(record: Record, intent: OrderIntent | None, reference: Reference) -> tuple[Any, ...]:
    if intent is None:
        return (None,) * 18
    order = intent.order
    symbol = reference.symbol(order.symbol_id)
    return (
        intent.owner, intent.group_id, order.symbol_id, order.side.value, order.order_type.value,
        order.time_in_force.value, _quantity(symbol, order.quantity), order.quantity,
        _price(symbol, order.price), order.price, _price(symbol, order.stop_price), order.stop_price,
        DELETED if record.deleted else intent.desired.value, intent.generation,
        intent.created_at_ns, _utc(intent.created_at_ns), intent.updated_at_ns, _utc(intent.updated_at_ns),
    )  # fmt: skip


def _state_cells(record: Record, reference: Reference) -> tuple[Any, ...]:
    state = order_state(record)
    if state is None:
        return (None,) * 11
    status = state.status
    symbol = reference.symbol(status.order.symbol_id)
    notional = None if symbol is None else decimal_text(symbol.notional_to_decimal(status.cum_notional))
    return (
        status.ord_status.value, _quantity(symbol, status.cum_qty), status.cum_qty,
        _quantity(symbol, status.leaves_qty), status.leaves_qty, _price(symbol, status.avg_px), status.avg_px,
        notional, str(status.cum_notional), state.exchange_order_id, state.client_order_id,
    )  # fmt: skip


def _price(symbol: SymbolMetadata | None, value: int | None) -> Decimal | None:
    return None if symbol is None or value is None else symbol.price_to_decimal(value)


def _quantity(symbol: SymbolMetadata | None, value: int | None) -> Decimal | None:
    return None if symbol is None or value is None else symbol.quantity_to_decimal(value)


def _utc(instant_ns: int | None) -> str | None:
    return utc(instant_ns) if instant_ns else None


def _word(value: Any) -> str | None:
    return None if value is None else str(value.value)


TABLES = {
    "events": ExportTable(EVENT_COLUMNS, event_rows),
    "orders": ExportTable(ORDER_COLUMNS, order_rows),
    "fills": ExportTable(FILL_COLUMNS, fill_rows),
}

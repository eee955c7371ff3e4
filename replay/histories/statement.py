"""Daily statements: trades, fees and realized profit by day, owner and symbol.

Called by `orderctl statement` and by library users. A trade counts on the UTC day of its transact time (the log's time if
the venue gave none); a bust or correction counts on its own day, on which it reverses what it voids. Realized profit is
before fees and by the owner's position in the symbol, in the order of the log: a trade recorded late changes the statement
of its day. Trades of external orders are in no statement.
"""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime

import msgspec
from msgspec import structs

from kernel.clock import NS_PER_S
from kernel.errors import ValidationError
from kernel.log.base import EventLog
from kernel.order_spec import Side
from projections.folds import ledger
from projections.folds.reference import Reference
from replay.formatting.decimals import Scales
from replay.formatting.output import Item, Listing, escaped
from replay.formatting.progress_bar import Progress
from replay.log_access.bookings import BookEntry, entries
from replay.log_access.log_reader import open_for_reading, point

COLUMNS = ("DAY", "OWNER", "SYMBOL", "FILLS", "BOUGHT", "SOLD", "REALIZED", "QUOTE", "FEES", "PAID", "RECEIVED",
           "CORRECTIONS", "BUSTS")  # fmt: skip
NARROW = 9
SECONDS_PER_DAY = 86_400


class Line(msgspec.Struct):
    """One owner's day in one symbol, in scaled integers; notionals have the scale of price × quantity."""

    day: str
    """UTC, as in 2026-01-31."""
    owner: str
    """Empty for intents without an owner."""
    symbol_id: str
    fills: int = 0
    corrections: int = 0
    busts: int = 0
    bought: int = 0
    """Net of busts of this day, so it is negative if trades of an earlier day were busted."""
    sold: int = 0
    realized_pnl: int = 0
    """Before fees."""
    paid: int = 0
    """Notional of purchases."""
    received: int = 0
    """Notional of sales."""
    fees: dict[str, int] = {}
    """Amount paid by asset, at the asset's scale."""


class Statement(msgspec.Struct, frozen=True):
    """Lines by day, owner and symbol."""

    exchange_id: str
    position: int
    """The last position that is included."""
    lines: tuple[Line, ...]
    reference: Reference
    """Scales of symbols and assets."""


async def statement(
    log: EventLog | str,
    *,
    day: str | date | None = None,
    owner: str | None = None,
    upto: int | None = None,
    progress: Progress | None = None,
    exchange_id: str | None = None,
) -> Statement:
    """Return the statement of a log.

    Args:
        log: An open log or its URL.
        day: A UTC day such as 2026-01-31; default: every day.
        owner: Default: all owners.
        upto: The last position; default: the head.
        progress: Called with the position reached and the last position.
        exchange_id: Expected owner of the log.

    Raises:
        ValidationError: The day is malformed.
        NotFoundError: The log does not exist.
    """
    day = None if day is None else valid_day(day)
    books = Books()
    async with open_for_reading(log, exchange_id) as found:
        end = await point(found, position=upto)
        reference = Reference()
        async for page in entries(found, reference, upto=end, progress=progress):
            for entry in page:
                books.book(entry)
        lines = [
            line for key, line in sorted(books.lines.items()) if day in (None, line.day) and owner in (None, line.owner)
        ]
        return Statement(found.exchange_id, end, tuple(lines), reference)


def valid_day(day: str | date) -> str:
    """Return a day as text. Raises `ValidationError`."""
    text = str(day)
    try:
        if date.fromisoformat(text).isoformat() == text:
            return text
    except ValueError:
        pass
    raise ValidationError(f"day {text!r} is not a date: write a UTC day as YYYY-MM-DD, e.g. 2026-01-31")


def day_of(instant_ns: int) -> str:
    days = instant_ns // NS_PER_S // SECONDS_PER_DAY
    return datetime.fromtimestamp(days * SECONDS_PER_DAY, UTC).date().isoformat()


class Books:
    """Accumulates lines and positions."""

    def __init__(self) -> None:
        self.lines: dict[tuple[str, str, str], Line] = {}
        self._positions: dict[tuple[str, str], ledger.OpenPosition] = {}
        self._counted = 0
        """Position of the last counted event: one event may have several entries."""

    def book(self, entry: BookEntry) -> None:
        booking = entry.booking
        key = (day_of(entry.at_ns), entry.owner, booking.symbol_id)
        line = self.lines.setdefault(key, Line(*key))
        before = self._positions.get(key[1:], ledger.OpenPosition())
        after = self._positions[entry.owner, booking.symbol_id] = ledger.booked(before, booking)
        line.realized_pnl += after.realized_pnl - before.realized_pnl
        line.fees = dict(sorted(ledger.with_fee(line.fees, booking).items()))
        self._count(line, entry)
        if booking.signed_quantity:
            _trade(line, entry)

    def _count(self, line: Line, entry: BookEntry) -> None:
        if entry.event.position == self._counted:
            return
        self._counted = entry.event.position
        line.fills += entry.kind == "FILL"
        line.corrections += entry.kind == "CORRECTION"
        line.busts += entry.kind == "BUST"


def _trade(line: Line, entry: BookEntry) -> None:
    notional = entry.quantity * entry.booking.price
    if entry.side is Side.BUY:
        line.bought += entry.quantity
        line.paid += notional
    else:
        line.sold += entry.quantity
        line.received += notional


def listing(found: Statement) -> Listing:
    return Listing("statement", COLUMNS, NARROW, tuple(_item(line, found.reference) for line in found.lines))


def _item(line: Line, reference: Reference) -> Item:
    scales, symbol_id = Scales(reference.symbol, reference.asset), line.symbol_id
    symbol = reference.symbol(symbol_id)
    quote = None if symbol is None else symbol.quote_asset
    data = scales.data(structs.asdict(line), symbol_id) | {"quote_asset": quote}
    fees = ", ".join(f"{scales.amount(asset_id, fee)} {asset_id}" for asset_id, fee in line.fees.items())
    cells = (
        line.day, line.owner or "-", symbol_id, str(line.fills), scales.quantity(symbol_id, line.bought),
        scales.quantity(symbol_id, line.sold), scales.notional(symbol_id, line.realized_pnl), quote or "-", fees or "-",
        scales.notional(symbol_id, line.paid), scales.notional(symbol_id, line.received), str(line.corrections),
        str(line.busts),
    )  # fmt: skip
    return Item(f"{line.day}/{line.owner}/{symbol_id}", data, (cells,))


def csv_text(found: Listing) -> str:
    """Format all columns of a listing as CSV, with control characters escaped."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.lower() for column in found.columns])
    writer.writerows([escaped(cell) for cell in line] for item in found.items for line in item.lines)
    return text.getvalue()

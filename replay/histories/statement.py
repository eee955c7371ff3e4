"""The daily statement: what was traded, what it cost and what it earned, by day, owner and symbol.

Called by the CLI and by library users. A trade belongs to the UTC day of its transact time, the venue's clock (the log's
own where the venue gave none); a bust or a correction to its own day, on which it takes back what it voids. Profit is
realized profit before fees, by the position of the owner in the symbol, booked in the order of the log by the ledger's
integer arithmetic: a trade that is recorded late changes the statement of its day. Trades of orders that are nobody's
intent are in no statement.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal

from kernel.clock import NS_PER_S
from kernel.errors import ValidationError, Violation
from kernel.log.base import EventLog
from kernel.order_spec import Side, SymbolMetadata, from_scaled, trimmed
from projections.folds import ledger
from projections.folds.reference import Reference
from replay.formatting.decimals import decimal_text
from replay.formatting.output import Item, Listing, escaped
from replay.formatting.progress_bar import Progress
from replay.log_access.bookings import BookEntry, entries
from replay.log_access.log_reader import open_for_reading, point

COLUMNS = ("DAY", "OWNER", "SYMBOL", "FILLS", "BOUGHT", "SOLD", "REALIZED", "QUOTE", "FEES", "PAID", "RECEIVED",
           "CORRECTIONS", "BUSTS")  # fmt: skip
NARROW = 9
SECONDS_PER_DAY = 86_400


@dataclass(slots=True)
class Line:
    """One owner's day in one symbol. Integers at the symbol's scales; notionals at the scale of price × quantity."""

    day: str
    """UTC, as in 2026-01-31."""
    owner: str
    """Empty for intents without one."""
    symbol_id: str
    fills: int = 0
    corrections: int = 0
    busts: int = 0
    bought: int = 0
    """Net of what was taken back this day, and so below zero where a trade of an earlier day was."""
    sold: int = 0
    paid: int = 0
    """Notional of what was bought."""
    received: int = 0
    """Notional of what was sold."""
    realized_pnl: int = 0
    """Before fees."""
    fees: dict[str, int] = field(default_factory=dict)
    """Asset → what was paid, at its scale."""


@dataclass(frozen=True, slots=True)
class Statement:
    """Lines in order of day, owner and symbol."""

    exchange_id: str
    position: int
    """The log up to here is in it."""
    lines: tuple[Line, ...]
    reference: Reference
    """The markets' scales."""


async def statement(
    log: EventLog | str,
    *,
    day: str | date | None = None,
    owner: str | None = None,
    upto: int | None = None,
    progress: Progress | None = None,
    exchange_id: str | None = None,
) -> Statement:
    """The statement of a day (2026-01-31; default: every day) and of an owner (default: everyone), up to a position."""
    wanted = None if day is None else day_named(day)
    books = Books()
    async with open_for_reading(log, exchange_id) as found:
        end = await point(found, position=upto)
        reference = Reference()
        async for page in entries(found, reference, upto=end, progress=progress):
            for entry in page:
                books.book(entry)
        lines = [
            line
            for key, line in sorted(books.lines.items())
            if wanted in (None, line.day) and owner in (None, line.owner)
        ]
        return Statement(found.exchange_id, end, tuple(lines), reference)


def day_named(day: str | date) -> str:
    """A day as it is written in a statement; `ValidationError` for anything else."""
    form = "a day in UTC, e.g. `2026-01-31`"
    try:
        named = date.fromisoformat(str(day)).isoformat()
    except ValueError:
        raise ValidationError(violations=[Violation("day", "form", form, str(day))]) from None
    if named != str(day):
        raise ValidationError(violations=[Violation("day", "form", form, str(day))])
    return named


def day_of(instant_ns: int) -> str:
    """The UTC day of an instant."""
    days = instant_ns // NS_PER_S // SECONDS_PER_DAY
    return datetime.fromtimestamp(days * SECONDS_PER_DAY, UTC).date().isoformat()


class Books:
    """Lines and positions as the entries come in."""

    def __init__(self) -> None:
        self.lines: dict[tuple[str, str, str], Line] = {}
        self._positions: dict[tuple[str, str], ledger.OpenPosition] = {}
        self._counted = 0
        """Position of the last event that was counted: one event may be several entries."""

    def book(self, entry: BookEntry) -> None:
        """Add an entry to its day and to its owner's position."""
        booking = entry.booking
        key = (day_of(entry.at_ns), entry.owner, booking.symbol_id)
        line = self.lines.setdefault(key, Line(*key))
        before = self._positions.get(key[1:], ledger.OpenPosition())
        after = self._positions[entry.owner, booking.symbol_id] = ledger.booked(before, booking)
        line.realized_pnl += after.realized_pnl - before.realized_pnl
        line.fees = dict(ledger.with_fee(tuple(sorted(line.fees.items())), booking))
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


# -------------------------------------------------------------------------------------------------------------- printing
def listing(found: Statement) -> Listing:
    """A statement as it is printed."""
    return Listing("statement", COLUMNS, NARROW, tuple(_item(line, found.reference) for line in found.lines))


def _item(line: Line, reference: Reference) -> Item:
    symbol = reference.symbol(line.symbol_id)
    figures = {
        "bought": _quantity(symbol, line.bought),
        "sold": _quantity(symbol, line.sold),
        "realized_pnl": _notional(symbol, line.realized_pnl),
        "paid": _notional(symbol, line.paid),
        "received": _notional(symbol, line.received),
    }
    fees = {asset_id: _amount(reference, asset_id, fee) for asset_id, fee in sorted(line.fees.items())}
    quote = None if symbol is None else symbol.quote_asset
    data = {
        "day": line.day, "owner": line.owner, "symbol_id": line.symbol_id, "fills": line.fills,
        "corrections": line.corrections, "busts": line.busts,
        **{name: _data(figure) for name, figure in figures.items()},
        "quote_asset": quote, "fees": {asset_id: _data(fee) for asset_id, fee in fees.items()},
    }  # fmt: skip
    shown = {name: _text(figure) for name, figure in figures.items()}
    paid = ", ".join(f"{_text(fee)} {asset_id}" for asset_id, fee in fees.items())
    cells = (
        line.day, line.owner or "-", line.symbol_id, str(line.fills), shown["bought"], shown["sold"],
        shown["realized_pnl"], quote or "-", paid or "-", shown["paid"], shown["received"], str(line.corrections),
        str(line.busts),
    )  # fmt: skip
    return Item(f"{line.day}/{line.owner}/{line.symbol_id}", data, (cells,))


def _quantity(symbol: SymbolMetadata | None, value: int) -> Decimal | int:
    return value if symbol is None else symbol.quantity_to_decimal(value)


def _notional(symbol: SymbolMetadata | None, value: int) -> Decimal | int:
    return value if symbol is None else symbol.notional_to_decimal(value)


def _amount(reference: Reference, asset_id: str, value: int) -> Decimal | int:
    asset = reference.asset(asset_id)
    return value if asset is None else from_scaled(value, decimals=asset.decimals)


def _data(figure: Decimal | int) -> str | int:
    """An exact decimal as text; what has no known scale stays an integer."""
    return decimal_text(figure) if isinstance(figure, Decimal) else figure


def _text(figure: Decimal | int) -> str:
    return trimmed(figure) if isinstance(figure, Decimal) else str(figure)


def csv_text(found: Listing) -> str:
    """A listing as comma-separated values, all columns, control characters written out."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.lower() for column in found.columns])
    writer.writerows([escaped(cell) for cell in line] for item in found.items for line in item.lines)
    return text.getvalue()

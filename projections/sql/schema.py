"""The tables of the read model and their columns. Pure; used by `store` and `rows`.

Prices and quantities are the stored integers at their symbol's scale, `_ns` columns are Unix nanoseconds, statuses are
FIX's words. A row is a function of the log up to a position, whatever the batches. Names and columns are public.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

Value = str | int | None
Row = tuple[Value, ...]
"""Values in the order of a table's columns; a flag is 0 or 1."""
Key = tuple[Value, ...]


class ColumnType(Enum):
    TEXT = "text"
    INTEGER = "integer"
    """A count or an instant of at most 63 bits."""
    NUMBER = "number"
    """A quantity, price or amount of any size: NUMERIC on PostgreSQL; on SQLite INTEGER, or TEXT beyond 63 bits, which
    SQLite would round."""
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    kind: ColumnType
    nullable: bool = False


@dataclass(frozen=True)
class SqlTable:
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    indexes: tuple[tuple[str, ...], ...] = ()
    first_kept: frozenset[str] = frozenset()
    """Columns that are written once, with the row: they describe its origin."""
    order: tuple[str, ...] = ()
    """Columns that rows are read by if not by key: unique, and sorted alike in every database."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def ordered_by(self) -> tuple[str, ...]:
        """The columns that rows are ordered by."""
        return self.order or self.key

    def key_of(self, row: Row) -> Key:
        return self.part(row, self.key)

    def part(self, row: Row, names: tuple[str, ...]) -> Key:
        """A row's values in the named columns."""
        known = self.names
        return tuple(row[known.index(name)] for name in names)


def columns(text: str) -> tuple[Column, ...]:
    """Columns from a list `name kind, …`; `?` after the kind makes it nullable."""
    pairs = [item.split() for item in text.split(",")]
    return tuple(Column(name, ColumnType(kind.rstrip("?")), kind.endswith("?")) for name, kind in pairs)


# The columns of a table stand in lines like the values of its rows in `rows`.
TERMS = """
    symbol_id text, side text, order_type text, quantity number, price number?, stop_price number?,
    time_in_force text"""

INTENTS = SqlTable(
    "intents",
    columns(f"""
    intent_id text, version integer, {TERMS}, expire_at_ns integer?, post_only flag,
    reduce_only flag, display_quantity number?, group_id text?, owner text, desired text,
    generation integer, on_unsolicited_cancel text, metadata text,
    created_at_ns integer, updated_at_ns integer"""),
    ("intent_id",),
    (("symbol_id", "desired"), ("owner",), ("group_id",), ("created_at_ns",)),
)
"""Order intents. `version` is the version of the intent's stream in the log; `metadata` is JSON."""

ORDERS = SqlTable(
    "orders",
    columns(f"""
    intent_id text, version integer, exchange_order_id text?, client_order_id text?,
    {TERMS}, ord_status text, cum_qty number, leaves_qty number, cum_notional number,
    avg_px number?, reconciliation_status text, observed_generation integer, unsettled_attempts integer,
    failures integer, failed_generation integer, not_before_ns integer, last_sync_ns integer"""),
    ("intent_id",),
    (("symbol_id", "ord_status"), ("exchange_order_id",), ("client_order_id",), ("reconciliation_status",)),
)
"""The order state of each intent, over all its venue orders. `last_sync_ns` is the newest event of this order alone."""

FILLS = SqlTable(
    "fills",
    columns("""
    intent_id text, fill_key text, quantity number, price number, position integer, recorded_at_ns integer,
    transact_time_ns integer?, symbol_id text, side text, exchange_order_id text?,
    client_order_id text?, ref_fill_key text?, liquidity text?, fee number?, fee_asset text?, fees text?,
    counts flag"""),
    ("intent_id", "fill_key", "quantity", "price"),
    (("symbol_id", "transact_time_ns"), ("fill_key",)),
    frozenset({"position", "recorded_at_ns", "transact_time_ns", "exchange_order_id", "client_order_id", "liquidity"}),
    ("position",),
)
"""Trades and corrections. `counts` is 0 for busted and corrected trades: sum rows where it is 1. `fees` has the fees of a
trade with several, as JSON by asset; then `fee` is NULL."""

POSITIONS = SqlTable(
    "positions",
    columns("symbol_id text, quantity number, avg_px number?, cost number, realized_pnl number, drift number"),
    ("symbol_id",),
)
"""Positions from fills; `drift` is the venue's position less the expected one."""

POSITION_FEES = SqlTable(
    "position_fees", columns("symbol_id text, asset_id text, amount number"), ("symbol_id", "asset_id")
)
"""Fees paid (negative: received), by symbol and asset."""

BALANCES = SqlTable(
    "balances",
    columns("asset_id text, total number, locked number, free number, drift number, observed_at_ns integer"),
    ("asset_id",),
)
"""Balances as last observed; `drift` is the part that fills, fees and transfers do not explain."""

FINDINGS = SqlTable(
    "findings",
    columns("""
    finding_id text, kind text, text text, intent_id text?, symbol_id text?,
    raised_at_ns integer, resolved_at_ns integer?, resolution text"""),
    ("finding_id",),
    (("kind", "resolved_at_ns"), ("intent_id",)),
)
"""Findings; `resolved_at_ns` is NULL while a finding is open."""

GROUPS = SqlTable(
    "groups",
    columns("""
    group_id text, version integer, mode text, native flag?, first_intent_id text?, excess number,
    excess_accepted number"""),
    ("group_id",),
)
"""Groups of contingent orders; `first_intent_id` is the member that filled first."""

GROUP_MEMBERS = SqlTable(
    "group_members",
    columns("group_id text, intent_id text, place integer, filled number"),
    ("group_id", "intent_id"),
    (("intent_id",),),
)

TABLES = (INTENTS, ORDERS, FILLS, POSITIONS, POSITION_FEES, BALANCES, FINDINGS, GROUPS, GROUP_MEMBERS)
PROJECTION = "desk"
"""The stored name of the set of tables, which share one position."""


@dataclass
class Changes:
    """Rows to write and to delete."""

    rows: dict[str, dict[Key, Row]] = field(default_factory=lambda: {table.name: {} for table in TABLES})
    """By table and key."""
    gone: dict[str, dict[Key, None]] = field(default_factory=lambda: {table.name: {} for table in TABLES})
    counts: dict[Key, int] = field(default_factory=dict)
    """Key of a fill that is written already to whether it counts now."""

    def put(self, table: SqlTable, row: Row) -> None:
        """Write a row; its `first_kept` columns keep the values of the first write."""
        assert len(row) == len(table.columns), f"a row of {table.name} has {len(table.columns)} values"
        key = table.key_of(row)
        self.gone[table.name].pop(key, None)
        known = self.rows[table.name].get(key)
        if known is not None and table.first_kept:
            pairs = zip(table.names, known, row, strict=True)
            row = tuple(old if name in table.first_kept else new for name, old, new in pairs)
        self.rows[table.name][key] = row

    def delete(self, table: SqlTable, key: Key) -> None:
        self.rows[table.name].pop(key, None)
        self.gone[table.name][key] = None

    def mark(self, key: Key, *, counts: bool) -> None:
        known = self.rows[FILLS.name].get(key)
        if known is None:
            self.counts[key] = int(counts)
        else:
            self.rows[FILLS.name][key] = (*known[:-1], int(counts))

    @property
    def size(self) -> int:
        written = sum(map(len, self.rows.values())) + sum(map(len, self.gone.values()))
        return written + len(self.counts)


def flag(value: bool | None) -> int | None:
    return None if value is None else int(value)


def text(value: str | None) -> str | None:
    """Text without NUL, which a venue's texts may contain and PostgreSQL rejects."""
    return value.replace("\0", "\\0") if value is not None and "\0" in value else value

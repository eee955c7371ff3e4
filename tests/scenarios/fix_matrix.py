"""Reads files of FIX order state change scenarios and runs them through the lifecycle.

Used by `test_fix_matrix.py`. Buy-side messages become the events that the kernel would have recorded; sell-side messages
become execution reports *without* OrdStatus, CumQty and LeavesQty, which are then read from the fold and compared with
the row. No code depends on which scenario a row belongs to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from msgspec import structs

from kernel.events import IntentCancelRequested, IntentCreated, IntentModified
from kernel.lifecycle.evolve import evolve
from kernel.lifecycle.orders.order_status import ord_status
from kernel.lifecycle.record import Record, order_under
from kernel.models import AttemptKind, ExecType, OrdStatus
from kernel.order_spec import Side, StandardOrder, TimeInForce
from kernel.venues.base import ExecutionReport
from tests.folding import NS_PER_S, Evolve, Journal, an_attempt, an_intent, an_order

Row = Mapping[str, Any]

PX_SCALE = 10_000
"""Prices in the file are decimals with at most four places."""
TIME_IN_FORCE = {
    "0": TimeInForce.DAY,
    "1": TimeInForce.GTC,
    "3": TimeInForce.IOC,
    "4": TimeInForce.FOK,
    "6": TimeInForce.GTD,
}
EXEC_TYPE_ALIASES = {
    "FILL": ExecType.TRADE,
    "PARTIAL_FILL": ExecType.TRADE,
    "REPLACE": ExecType.REPLACED,
    "TRIGGERED_OR_ACTIVATED_BY_SYSTEM": ExecType.TRIGGERED,
}
ORD_STATUS_ALIASES = {"PARTIAL": OrdStatus.PARTIALLY_FILLED, "REPLACED": OrdStatus.NEW}
ATTEMPT_OF = {"OrderCancelRequest": AttemptKind.CANCEL, "OrderCancelReplaceRequest": AttemptKind.AMEND}
TRADES = frozenset({ExecType.TRADE, ExecType.TRADE_CORRECT, ExecType.TRADE_CANCEL})
SWAPPABLE = frozenset({"New", "Trade"})


@dataclass(frozen=True)
class Scenario:
    """One path through a scenario of the file: all its rows, or those up to an alternative answer that ends it."""

    name: str
    rows: tuple[tuple[int, Row], ...]
    """Each with its index in the file, which is its venue time in seconds."""
    time_in_force: TimeInForce
    """Time in force of its orders, unless a row states another."""

    @property
    def swaps(self) -> list[int]:
        """Indexes of rows that may as well follow the next one: two reports of a trade or acceptance, or two that cross."""
        pairs = zip(self.rows, self.rows[1:], strict=False)
        return [place for place, ((_, row), (_, other)) in enumerate(pairs) if may_swap(row, other)]

    def swapped(self, place: int) -> Scenario:
        """With the row at a place coming after the next."""
        rows = list(self.rows)
        rows[place], rows[place + 1] = rows[place + 1], rows[place]
        return replace(self, rows=tuple(rows))


def may_swap(row: Row, other: Row) -> bool:
    if row.get("crosses") and other.get("crosses") and row["t"] == other["t"]:
        return bool(row["sender"] != other["sender"])
    reports = row["sender"] == "sell" and other["sender"] == "sell"
    return reports and {row.get("exec_type"), other.get("exec_type")} <= SWAPPABLE


def load(path: Path) -> list[Scenario]:
    """Every scenario of a file, and one more for each row that ends it otherwise."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [way for entry in data["scenarios"] for way in ways(entry)]


def ways(entry: Mapping[str, Any]) -> Iterator[Scenario]:
    rows = [(index, row) for index, row in enumerate(entry["steps"], start=1) if row["sender"] != "offline"]
    days = {label[1] for _, row in rows if (label := re.match(r"D(\d+)", str(row["t"])))}
    tif = TimeInForce.GTC if len(days) > 1 else TimeInForce.DAY
    main = [(index, row) for index, row in rows if not row.get("alt")]
    yield Scenario(entry["id"], tuple(main), tif)
    for index, row in rows:
        if row.get("alt"):
            before = tuple(item for item in main if item[0] < index)
            yield Scenario(f"{entry['id']} t{row['t']} row {index}", (*before, (index, row)), tif)


class Expected(NamedTuple):
    """The expected state after a row; None where the source leaves it blank."""

    ord_status: OrdStatus | None
    cum_qty: int | None
    leaves_qty: int | None
    avg_px: Decimal | None


def expected_of(row: Row) -> Expected:
    return Expected(
        status_of(row.get("ord_status")),
        whole(row.get("cum_qty")),
        whole(row.get("leaves_qty")),
        number(row.get("avg_px")),
    )


class VenueStatus(NamedTuple):
    """The state of one venue order in the terms of a FIX execution report."""

    ord_status: OrdStatus
    """FIX 39."""
    cum_qty: int
    """FIX 14, at the quantity scale."""
    leaves_qty: int
    """FIX 151, at the quantity scale."""
    cum_notional: int = 0
    """Sum of price × quantity over its known trades; FIX 6 (AvgPx) is this divided by `traded_qty`."""
    traded_qty: int = 0
    """Known trades, net of busts and corrections."""


def venue_status(record: Record, client_order_id: str) -> VenueStatus:
    """Return the state of the order under a client order id, or of the target of the request under it.

    An order in flight is PENDING_NEW; FIX calls an unknown one REJECTED, with nothing filled and nothing open.
    """
    facts = order_under(record, client_order_id)
    if facts is not None:
        amounts = facts.quantities
        return VenueStatus(ord_status(facts), facts.cum_qty, facts.leaves_qty, amounts.cum_notional, amounts.traded_qty)
    sent = [item for item in record.unresolved if item.kind is AttemptKind.SUBMIT]
    if record.sent_order is not None and any(item.client_order_id == client_order_id for item in sent):
        return VenueStatus(OrdStatus.PENDING_NEW, 0, record.sent_order.quantity)
    return VenueStatus(OrdStatus.REJECTED, 0, 0)


def mismatches(status: VenueStatus, expected: Expected) -> list[str]:
    """The differences between the state and the row."""
    pairs = (
        ("OrdStatus", status.ord_status, expected.ord_status),
        ("CumQty", status.cum_qty, expected.cum_qty),
        ("LeavesQty", status.leaves_qty, expected.leaves_qty),
    )
    found = [f"{name} came out as {got}, the row says {want}" for name, got, want in pairs if want not in (None, got)]
    if expected.avg_px is not None and not is_average(status, expected.avg_px):
        found.append(f"AvgPx comes of {status.cum_notional} / {status.traded_qty}, the row says {expected.avg_px}")
    return found


def is_average(status: VenueStatus, avg_px: Decimal) -> bool:
    """Whether a printed average is the exact one, to the places that are printed."""
    exact = Decimal(status.cum_notional) / (status.traded_qty * PX_SCALE) if status.traded_qty else Decimal(0)
    exponent = avg_px.as_tuple().exponent
    assert isinstance(exponent, int)
    return abs(exact - avg_px) <= Decimal(1).scaleb(exponent) / 2


class Options(NamedTuple):
    """How reports are fed."""

    doubled: bool = False
    """Each twice."""
    named: bool = False
    """With the venue's order id."""
    totals: bool = False
    """With the row's OrdStatus, CumQty and LeavesQty, which then are evidence."""


class Run:
    """One scenario in progress."""

    def __init__(self, scenario: Scenario, options: Options, fold: Evolve = evolve) -> None:
        self.scenario = scenario
        self.options = options
        self.journal = Journal(fold)
        self.intent_of: dict[str, str] = {}
        """Client order id → intent, for orders and for requests about them."""
        self.requests: dict[str, AttemptKind] = {}
        self.sends: dict[str, int] = {}
        self.last_trade: dict[str, str] = {}

    def play(self, index: int, row: Row) -> None:
        """Take in one row."""
        if row["sender"] == "buy":
            return self.buy(row)
        for _ in range(2 if self.options.doubled else 1):
            self.hear(index, row)
        return None

    def status(self, row: Row) -> VenueStatus:
        """The fold's state of the row's order."""
        client_id = row.get("orig_cl_ord_id") or row.get("cl_ord_id") or ""
        return venue_status(self.journal.record(self.intent_for(row)), client_id)

    # ------------------------------------------------------------------------------------------------ the buy side
    def buy(self, row: Row) -> None:
        if row["msg"] == "NewOrderSingle":
            self.submit(row)
        elif row["msg"] in ATTEMPT_OF:
            self.request(row, ATTEMPT_OF[row["msg"]])

    def submit(self, row: Row) -> None:
        client_id = row["cl_ord_id"]
        order = self.order(row)
        intent_id = self.intent_of.setdefault(client_id, f"i-{client_id}")
        if self.journal.record(intent_id).intent is None:
            self.journal.append(intent_id, IntentCreated(intent=an_intent(order, intent_id)))
        self.sends[client_id] = self.sends.get(client_id, 0) + 1
        self.journal.append(intent_id, an_attempt(AttemptKind.SUBMIT, client_id, order, intent_id=intent_id))

    def request(self, row: Row, kind: AttemptKind) -> None:
        client_id, target = row["cl_ord_id"], row.get("orig_cl_ord_id") or ""
        intent_id = self.intent_of.setdefault(target, f"i-{target}")
        self.intent_of.setdefault(client_id, intent_id)
        self.requests[client_id] = kind
        self.want(intent_id, row, kind)
        number = self.journal.record(intent_id).number + 1
        attempt = an_attempt(
            kind, client_id, self.order(row), number=number, intent_id=intent_id, target_client_order_id=target
        )
        self.journal.append(intent_id, attempt)

    def want(self, intent_id: str, row: Row, kind: AttemptKind) -> None:
        """The change of the intent that precedes a request."""
        intent = self.journal.record(intent_id).intent
        if intent is None:
            return
        generation = intent.generation + 1
        if kind is AttemptKind.CANCEL:
            wish = IntentCancelRequested(intent_id=intent_id, generation=generation, requested_at_ns=1)
            self.journal.append(intent_id, wish)
            return
        changed = {"order": self.order(row), "generation": generation}
        self.journal.append(intent_id, IntentModified(intent=structs.replace(intent, **changed)))

    def order(self, row: Row) -> StandardOrder:
        """The terms of a row; without a quantity, that of the first report about it (FIX CashOrderQty)."""
        code = row.get("time_in_force")
        tif = self.scenario.time_in_force if code is None else time_in_force(str(code))
        same = (other for _, other in self.scenario.rows if other.get("cl_ord_id") == row.get("cl_ord_id"))
        sizes = (whole(item.get("order_qty")) for item in (row, *same))
        quantity = next((size for size in sizes if size), 1)
        return an_order(quantity, price=scaled(row.get("price")) or 100 * PX_SCALE, tif=tif)

    # ----------------------------------------------------------------------------------------------- the sell side
    def hear(self, index: int, row: Row) -> None:
        intent_id = self.intent_for(row)
        report = self.report(index, row)
        is_ours = intent_id in self.journal.records
        if not is_ours and report.exec_type is not ExecType.ORDER_STATUS:
            # An order that came to the desk by telephone: the intent is written down when its first report comes.
            self.journal.append(intent_id, IntentCreated(intent=an_intent(self.order(row), intent_id)))
        self.journal.hear(intent_id, report)

    def intent_for(self, row: Row) -> str:
        for client_id in (row.get("orig_cl_ord_id"), row.get("cl_ord_id")):
            if client_id in self.intent_of:
                return self.intent_of[client_id]
        return f"i-{row.get('cl_ord_id') or 'unnamed'}"

    def report(self, index: int, row: Row) -> ExecutionReport:
        exec_type = self.exec_type(row)
        fields: dict[str, Any] = {
            "exec_type": exec_type,
            "symbol_id": "S",
            "side": Side.BUY,
            "exec_id": row.get("exec_id") or f"row-{index}",
            "client_order_id": row.get("cl_ord_id"),
            "orig_client_order_id": row.get("orig_cl_ord_id"),
            "exchange_order_id": self.order_id(row, exec_type),
            "order_qty": whole(row.get("order_qty")),
            "price": scaled(row.get("price")),
            "last_qty": whole(row.get("last_qty")),
            "last_px": scaled(row.get("last_px")) or 100 * PX_SCALE,
            "transact_time_ns": index * NS_PER_S,
            "corporate_action": is_corporate_action(row),
            "text": row.get("exec_restatement_reason") or row.get("ord_rej_reason"),
        }
        if exec_type in TRADES:
            fields |= self.fill_keys(fields["exec_id"], row)
        if self.options.totals:
            expected = expected_of(row)
            fields |= {
                "cum_qty": expected.cum_qty,
                "leaves_qty": expected.leaves_qty,
                "ord_status": expected.ord_status,
            }
        return ExecutionReport(**fields)

    def exec_type(self, row: Row) -> ExecType:
        """A FIX 35=9 by the request that it answers; an unknown ExecType (Calculated, Suspended) is a status only."""
        if row["msg"] == "OrderCancelReject":
            amends = self.requests.get(row["cl_ord_id"]) is AttemptKind.AMEND
            return ExecType.REPLACE_REJECTED if amends else ExecType.CANCEL_REJECTED
        name = upper_snake(row["exec_type"])
        if name in EXEC_TYPE_ALIASES:
            return EXEC_TYPE_ALIASES[name]
        return ExecType(name) if name in ExecType.__members__ else ExecType.ORDER_STATUS

    def order_id(self, row: Row, exec_type: ExecType) -> str | None:
        """FIX 37, unless the answer is about an unknown order or refuses a repeated id."""
        client_id = row.get("cl_ord_id")
        if row.get("order_id") == "NONE" or (exec_type is ExecType.REJECTED and self.sends.get(client_id or "", 0) > 1):
            return None
        if client_id is not None and not self.options.named:
            return row.get("order_id")
        known = client_id is None or self.intent_for(row) in self.journal.records
        return str(row.get("order_id") or f"o-{self.intent_for(row)}") if known else None

    def fill_keys(self, exec_id: str, row: Row) -> dict[str, Any]:
        """Fill keys from ExecID and ExecRefID; a correction that names nothing is about the last trade."""
        intent_id = self.intent_for(row)
        is_trade = self.exec_type(row) is ExecType.TRADE
        ref = None if is_trade else row.get("exec_ref_id") or self.last_trade.get(intent_id, "")
        if row.get("exec_type") != "TradeCancel":
            self.last_trade[intent_id] = exec_id
        return {"fill_key": exec_id, "ref_fill_key": ref}


def is_corporate_action(row: Row) -> bool:
    """FIX 378: 0 is "GT corporate action", such as a split of the stock."""
    reason = str(row.get("exec_restatement_reason", ""))
    return reason == "0" or reason.startswith("0 ") or "corporate action" in reason.lower()


def check(scenario: Scenario, options: Options, *, moved: int | None = None) -> list[str]:
    """Run a scenario; return the differences from its rows.

    Rows that are anomalies in the source are printed and not compared. `moved` is the index of a row that was swapped with
    the one before it: of the two, the later state is compared, after both.
    """
    run = Run(scenario, options)
    found: list[str] = []
    for place, (index, row) in enumerate(scenario.rows):
        run.play(index, row)
        if place == moved or (row["sender"] != "sell" and place - 1 != moved):
            continue
        compared = row if place - 1 != moved else last_report(scenario.rows[place - 1 : place + 1])
        where = f"{scenario.name} row {index} (t {row['t']})"
        problems = mismatches(run.status(compared), expected_of(compared))
        if row.get("anomaly"):
            print(f"anomaly in the source, {where}: {'; '.join(problems) or 'comes out all the same'}")
            continue
        found += [f"{where}: {problem}" for problem in problems]
    return found


def delayed_repeats(scenario: Scenario, fold: Evolve = evolve) -> list[str]:
    """Run a scenario with complete reports, then repeat every report, the last one first; return the changes."""
    run = Run(scenario, Options(totals=True), fold)
    for index, row in scenario.rows:
        run.play(index, row)
    reports = [(index, row) for index, row in scenario.rows if row["sender"] == "sell"]
    before = [run.status(row) for _, row in reports]
    for index, row in reversed(reports):
        run.play(index, row)
    after = [run.status(row) for _, row in reports]
    return [f"{scenario.name}: {was} became {now}" for was, now in zip(before, after, strict=True) if was != now]


def last_report(rows: tuple[tuple[int, Row], ...]) -> Row:
    """The later one, in the source, of two swapped rows: after both, its state holds."""
    return max((item for item in rows if item[1]["sender"] == "sell"), key=lambda item: item[0])[1]


# ------------------------------------------------------------------------------------------------------------- values
def status_of(name: str | None) -> OrdStatus | None:
    """The status of a row; None for one that is unknown to this project, which is printed."""
    if name is None:
        return None
    key = upper_snake(name)
    if key in ORD_STATUS_ALIASES:
        return ORD_STATUS_ALIASES[key]
    if key in OrdStatus.__members__:
        return OrdStatus(key)
    print(f"no such OrdStatus here, not compared: {name}")
    return None


def time_in_force(code: str) -> TimeInForce:
    """FIX 59, as a code or as a word; an unknown one is DAY."""
    return TimeInForce(code) if code in TimeInForce.__members__ else TIME_IN_FORCE.get(code, TimeInForce.DAY)


def upper_snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.replace(" ", "_")).upper()


def whole(value: Any) -> int | None:
    return None if value is None else int(Decimal(str(value)))


def number(value: Any) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def scaled(value: Any) -> int | None:
    return None if value is None else int(Decimal(str(value)) * PX_SCALE)

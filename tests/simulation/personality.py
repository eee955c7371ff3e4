"""The venue's personality: how it differs from the paper exchange, as venues in the field do. One or more for each run.

`Personality` stands between every kernel's port and the exchange: it translates requests on their way in and reports on
their way out, and keeps what the auditor has to know. The plan draws the names in `PERSONALITIES` and their events.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any, TypeVar

from msgspec import structs

from kernel.clock import NS_PER_S
from kernel.errors import Rejected
from kernel.models import Balance, ExecType, OrdStatus
from kernel.order_spec import SymbolMetadata
from kernel.venues.base import (
    CancelRequest,
    ExecutionReport,
    ModifyRequest,
    SubmitRequest,
    Transfer,
    VenueCapabilities,
    VenueSnapshot,
)

PERSONALITIES: dict[str, tuple[str, ...]] = {
    "unnamed-trades": (),  # the list of trades has no client order ids
    "unnamed-orders": (),  # the list of open orders has none
    "ids-per-symbol": (),  # venue order ids are unique within a symbol only
    "ids-reused": (),  # and are given again
    "rounds": (),  # takes orders at a rounded price
    "false-ends": ("false-end",),  # reports the end of orders that stay open
    "ghosts": ("purge",),  # forgets open orders
    "omits": ("omit",),  # a list lacks an open order
    "undoes": ("undo",),  # ends every order of a symbol at once, for a while
    "triggers": ("stop",),  # a stop that triggers becomes a new order
    "self-trades": ("expire", "decrement"),  # ends or reduces orders to prevent a self-trade
    "late-fees": (),  # reports the fee of a trade later, and then as several
    "flows": ("flow",),  # balances change without trades
    "rescales": ("rescale", "delist"),  # a symbol changes its scale, or is not listed for a while
    "mute": ("mute",),  # the stream is silent
    "clocks": ("clock",),  # a host's clock is wrong for a while
    "later": ("busy",),  # refuses everything with a retry time
    "short-history": (),  # trades are listed for a short time
    "defects": ("defect",),  # the adapter raises what it must not
}
"""Each personality and its events."""
HISTORY_NS = 60 * NS_PER_S
ROUND = 7
"""Prices are rounded down to a multiple of this."""
REUSED = 7
"""Venue order ids run from 1 to this and begin anew, less those in use; beyond it if all of those are."""
IN_USE_NS = 10 * NS_PER_S
"""An id is in use while its order is open, and for so long after its end: venues begin anew with a day or a reset."""
OMITTED_AGAIN_NS = 25 * NS_PER_S
"""So long after a list lacked an open order, another may: two in a row prove its end, as the protocol says (H22)."""
Request = TypeVar("Request", SubmitRequest, CancelRequest, ModifyRequest)


Event = tuple[float, str, tuple[str, ...]]
"""When, at which kernel (`-`: at none), and the words of the event."""


def drawn(seed: int, length_s: float, names: Sequence[str] = ()) -> tuple[str, list[Event]]:
    """The personalities of a seed, as the plan's property, and their events; none for half of the seeds.

    With `names`, those of them instead.
    """
    chance = random.Random(f"{seed}/venue")
    if (chance.random() < 0.5 and not names) or tuple(names) == ("plain",):
        return "plain", []
    names = names or chance.sample(sorted(PERSONALITIES), chance.choice((1, 1, 1, 2, 3)))
    ops: list[Event] = []
    for verb in (verb for name in names for verb in PERSONALITIES[name]):
        for _ in range(chance.randint(5, 12) if verb == "stop" else chance.randint(1, 5)):
            at_s = round(chance.uniform(0, length_s), 3)
            ops += stop_order(at_s, len(ops), chance) if verb == "stop" else [(at_s, "-", event_of(verb, chance))]
            if verb == "undo":
                ops.append(undone_order(at_s, len(ops), ops[-1][2][1]))
    return "+".join(names), ops


def stop_order(at_s: float, number: int, chance: random.Random) -> list[Event]:
    """A strategy places a stop order, and sometimes cancels it."""
    side, away = chance.choice(("BUY", "SELL")), chance.choice((5, 15, 25, 55))
    stop = 10_000 + (away if side == "BUY" else -away)
    terms = (chance.choice(("S", "T")), side, str(chance.randint(1, 10)), f"stop@{stop}")
    name, more = f"s{number + 1}", chance.choice(((), ("recreate",)))
    placed: list[Event] = [(at_s, "A", ("place", name, *terms, *more))]
    if chance.random() < 0.4:
        placed.append((round(at_s + chance.uniform(0.5, 20), 3), "A", ("cancel", name)))
    return placed


def undone_order(at_s: float, number: int, symbol_id: str) -> Event:
    """A strategy places an order that is to be placed again whenever the venue ends it."""
    return (at_s, "A", ("place", f"u{number}", symbol_id, "BUY", "5", "@9950", "recreate"))


def event_of(verb: str, chance: random.Random) -> tuple[str, ...]:
    """An event with its arguments."""
    which, for_s = str(chance.randrange(100)), str(chance.choice((1, 3, 8)))
    symbol_id = chance.choice(("S", "T"))
    arguments: dict[str, tuple[str, ...]] = {
        "false-end": (which, chance.choice(("CANCELED", "EXPIRED"))),
        "purge": (which,),
        "omit": (which,),
        "undo": (symbol_id, str(chance.choice((5, 20, 40)))),
        "expire": (which,),
        "decrement": (which, str(chance.randint(1, 5))),
        "flow": (chance.choice(("XS", "XT", "Y")), str(chance.choice((-1, 1)) * chance.randint(1, 10**6))),
        "rescale": (symbol_id, for_s),
        "delist": (symbol_id, for_s),
        "mute": (for_s,),
        "clock": (chance.choice(("A", "B", "C")), str(chance.choice((-4, -3, 3, 5))), for_s),
        "busy": (for_s,),
        "defect": (chance.choice(("submit", "cancel", "order", "snapshot", "symbols", "reports", "connect")),),
    }
    return (verb, *arguments[verb])


@dataclass
class Personality:
    """What the venue of one run shows, and how it differs from the truth."""

    names: frozenset[str]
    now_ns: Any
    """Returns the venue's time."""
    symbol_of: Any
    """Returns the symbol of an order by its true venue id."""
    client_id_of: Any
    """Returns the client order id of an order by its true venue id."""
    in_use_until_ns: Any
    """Returns until when the id of an order is in use, by its true venue id."""
    purged: set[str] = field(default_factory=set)
    """True venue ids of orders that the venue has forgotten."""
    omitted: set[str] = field(default_factory=set)
    """True venue ids of orders that the next list lacks."""
    lacked_ns: dict[str, int] = field(default_factory=dict)
    """True venue id of an open order to when a list lacked it last."""
    undoes: dict[str, int] = field(default_factory=dict)
    """Symbol to the instant until which the venue ends its orders at once."""
    muted_until_ns: int = 0
    busy_until_ns: int = 0
    rescaled: dict[str, int] = field(default_factory=dict)
    """Symbol to the instant until which it has another scale."""
    delisted: dict[str, int] = field(default_factory=dict)
    flows: list[Transfer] = field(default_factory=list)
    defects: deque[str] = field(default_factory=deque)
    _shown: dict[str, str] = field(default_factory=dict)
    """True venue id to the id that is shown."""
    _created_ns: dict[str, int] = field(default_factory=dict)
    """True venue id to when the order was placed."""
    _true: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    """Symbol and shown id to the true ids, oldest first."""

    # ids

    def shown_id(self, order_id: str) -> str:
        """The venue id under which an order is shown."""
        if not self.names & {"ids-per-symbol", "ids-reused"}:
            return order_id
        if order_id not in self._shown:
            symbol_id = self.symbol_of(order_id)
            shown = self._shown[order_id] = self._next_id(symbol_id)
            self._created_ns[order_id] = self.now_ns()
            self._true[symbol_id, shown].append(order_id)
        return self._shown[order_id]

    def _next_id(self, symbol_id: str) -> str:
        """The next id in a symbol: one that is in use is not given again."""
        known = {order_id: shown for order_id, shown in self._shown.items() if self.symbol_of(order_id) == symbol_id}
        last = int([*known.values()][-1]) if known else 0
        if "ids-reused" not in self.names:
            return str(last + 1)
        taken = {shown for order_id, shown in known.items() if self.in_use_until_ns(order_id) > self.now_ns()}
        numbers = chain((number % REUSED + 1 for number in range(last, last + REUSED)), count(REUSED + 1))
        return next(shown for number in numbers if (shown := str(number)) not in taken)

    def true_id(self, symbol_id: str, shown: str | None) -> str | None:
        """The order that a kernel means by a venue id: the newest with it."""
        if shown is None or not self.names & {"ids-per-symbol", "ids-reused"}:
            return shown
        known = self._true.get((symbol_id, shown), [])
        return known[-1] if known else "0"

    def true_ids(self, symbol_id: str, shown: str) -> list[str]:
        """Every order that was ever shown under a venue id."""
        return self._true.get((symbol_id, shown), []) if self.names & {"ids-per-symbol", "ids-reused"} else [shown]

    def is_given_again(self, order_id: str) -> bool:
        """Whether a later order of the symbol has the shown id of an order."""
        return self.true_ids(self.symbol_of(order_id), self.shown_id(order_id))[-1] != order_id

    def true_row(self, event: dict[str, Any]) -> dict[str, Any]:
        """An event of the log with the true ids of the orders that it names, for the auditor."""
        if not self.names & {"ids-per-symbol", "ids-reused"}:
            return event
        if adopted := event.get("intent", {}).get("metadata", {}).get("adopted"):
            named = {"symbol_id": event["intent"]["order"]["symbol_id"], **adopted}
            intent = {**event["intent"], "metadata": {"adopted": self.true_row(named)}}
            return event | {"intent": intent}
        symbol_id = event.get("symbol_id") or event.get("order", {}).get("symbol_id", "")
        named = {event.get(name) for name in ("client_order_id", "orig_client_order_id", "target_client_order_id")}
        changed = {
            name: self._meant(symbol_id, event[name], named, event)
            for name in ("exchange_order_id", "target_exchange_order_id")
            if event.get(name)
        }
        return event | changed

    def _meant(self, symbol_id: str, shown: str, named: set[str | None], event: dict[str, Any]) -> str:
        """The order that is meant by a shown id: the one whose trade or whose client order id is named too, else the
        newest that was placed by the time of the report."""
        known = self.true_ids(symbol_id, shown)
        keys = (event.get("ref_fill_key") or event.get("fill_key") or "").split(":")  # paper:SYMBOL:ORDER:TRADE
        traded = [item for item in known if len(keys) > 2 and item == keys[2]]
        alike = traded or [item for item in known if self.client_id_of(item) in named] or known
        told_ns = event.get("transact_time_ns")
        placed = [item for item in alike if not told_ns or self._created_ns.get(item, 0) <= told_ns]
        return (placed or alike or [shown])[-1]

    # requests

    def taken(self, call: str, request: Request) -> Request:
        """A request as the exchange gets it. Raises what the venue raises instead of taking it."""
        if (left_ns := self.busy_until_ns - self.now_ns()) > 0:
            raise Rejected("the venue is busy", code="BUSY", retry_after_s=left_ns / NS_PER_S)
        changes: dict[str, Any] = {}
        if isinstance(request, CancelRequest):
            target = self.true_id(request.symbol_id, request.target_exchange_order_id)
            changes["target_exchange_order_id"] = target
        if isinstance(request, SubmitRequest | ModifyRequest) and "rounds" in self.names and request.order.price:
            changes["order"] = structs.replace(request.order, price=self.rounded(request.order.price))
        return structs.replace(request, **changes)

    def rounded(self, price: int | None) -> int | None:
        """The price at which an order works."""
        return max(1, price - price % ROUND) if price and "rounds" in self.names else price

    def defect(self, call: str) -> None:
        """Raise what no adapter may raise, if one is due for this call."""
        if call in self.defects:
            self.defects.remove(call)
            raise KeyError(f"the adapter of this venue has a defect in {call}")

    # reports

    def capabilities(self, true: VenueCapabilities) -> VenueCapabilities:
        """What the venue declares."""
        changes: dict[str, Any] = {}
        if "unnamed-trades" in self.names:
            changes["trades_carry_client_id"] = False
        if "unnamed-orders" in self.names:
            changes["orders_carry_client_id"] = False
        if "ids-reused" in self.names:
            changes["order_ids_unique"] = False
        if "short-history" in self.names:
            changes["trades_history_ns"] = HISTORY_NS
        return structs.replace(true, **changes)

    def shown(self, report: ExecutionReport, *, unnamed: bool = False) -> ExecutionReport:
        """A report as it is shown."""
        changes: dict[str, Any] = {}
        if report.exchange_order_id is not None:
            changes["exchange_order_id"] = self.shown_id(report.exchange_order_id)
        if unnamed:
            changes |= {"client_order_id": None, "orig_client_order_id": None}
        if all(getattr(report, name) == value for name, value in changes.items()):
            return report
        return structs.replace(report, **(changes | {"raw": None}))

    def streamed(self, report: ExecutionReport) -> list[ExecutionReport]:
        """What the stream brings of a report at once."""
        if self.now_ns() < self.muted_until_ns or report.exchange_order_id in self.purged:
            return []
        if "late-fees" in self.names and report.exec_type is ExecType.TRADE and report.fee is not None:
            report = structs.replace(report, fee=None, fee_asset=None, raw=None)
        return [self.shown(report)]

    def answered(self, report: ExecutionReport | None) -> ExecutionReport | None:
        """The answer to a status query."""
        return None if report is None or report.exchange_order_id in self.purged else self.shown(report)

    def listed(self, snapshot: VenueSnapshot, since_ns: int) -> VenueSnapshot:
        """What the lists show."""
        oldest_ns = self.now_ns() - HISTORY_NS if "short-history" in self.names else 0
        fills = [item for item in snapshot.fills if (item.transact_time_ns or 0) >= oldest_ns]
        flows = [item for item in self.flows if (item.transact_time_ns or 0) >= since_ns]
        open_orders = [item for item in snapshot.open_orders if item.exchange_order_id not in self.omitted]
        self.lacked_ns |= dict.fromkeys(self.omitted, self.now_ns())
        self.omitted.clear()
        return structs.replace(
            snapshot,
            open_orders=self._all(open_orders, unnamed="unnamed-orders" in self.names),
            fills=self._all(map(self._charged, fills), unnamed="unnamed-trades" in self.names),
            balances=self._with_flows(snapshot.balances),
            transfers=tuple(flows),
        )

    def _all(self, reports: Iterable[ExecutionReport], *, unnamed: bool) -> tuple[ExecutionReport, ...]:
        return tuple(self.shown(report, unnamed=unnamed) for report in reports)

    def _charged(self, report: ExecutionReport) -> ExecutionReport:
        if "late-fees" not in self.names or report.fee is None or report.fee_asset is None:
            return report
        fees = {"Y": 0, report.fee_asset: report.fee}
        return structs.replace(report, fee=None, fee_asset=None, fees=fees, raw=None)

    def _with_flows(self, balances: dict[str, Balance] | None) -> dict[str, Balance] | None:
        if balances is None or not self.flows:
            return balances
        moved = {name: sum(item.amount for item in self.flows if item.asset_id == name) for name in balances}
        return {
            name: structs.replace(held, total=held.total + moved[name], free=held.free + moved[name])
            for name, held in balances.items()
        }

    def symbols(self, symbols: Sequence[SymbolMetadata]) -> list[SymbolMetadata]:
        """The symbols that the venue shows now."""
        now_ns, shown = self.now_ns(), []
        for symbol in symbols:
            if now_ns < self.delisted.get(symbol.symbol_id, 0):
                continue
            other = now_ns < self.rescaled.get(symbol.symbol_id, 0)
            shown.append(structs.replace(symbol, price_decimals=3) if other else symbol)
        return shown

    def false_end(self, report: ExecutionReport, status: OrdStatus) -> ExecutionReport:
        """The report that an open order has ended."""
        ended = {"exec_type": ExecType(status.value), "ord_status": status, "leaves_qty": 0, "raw": None}
        return structs.replace(
            report, **(ended | {"transact_time_ns": self.now_ns(), "exec_id": f"false-{self.now_ns()}"})
        )

    def calm(self) -> None:
        """End everything that lasts, as faults stop."""
        self.muted_until_ns = self.busy_until_ns = 0
        self.omitted.clear()
        self.undoes.clear()
        self.rescaled.clear()
        self.delisted.clear()
        self.defects.clear()

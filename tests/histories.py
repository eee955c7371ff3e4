"""A venue that tells the truth: random but consistent histories of orders, as reports with strictly increasing times.

Used by the property tests of the lifecycle. The model beside each order (`Truth`) is independent of the kernel: it counts
quantities up as a venue would. Whether a report carries the venue's totals is drawn for each; where it does they are true
at that instant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from kernel.events import AttemptStarted
from kernel.models import AttemptKind, ExecType, OrdStatus
from kernel.order_spec import Side
from kernel.venues.base import ExecutionReport
from tests.folding import NS_PER_S, an_attempt, an_order

QUANTITY = 100


@dataclass
class Truth:
    """What the venue itself knows of one order."""

    client_id: str
    order_id: str
    quantity: int = QUANTITY
    trades: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Newest fill key of each chain of corrections that stands → (quantity, price)."""
    ids: list[str] = field(default_factory=list)
    """Its client order ids, oldest first."""
    pending: dict[str, AttemptKind] = field(default_factory=dict)
    """Requests called pending and not answered."""
    ended: OrdStatus | None = None
    requests: list[AttemptStarted] = field(default_factory=list)

    @property
    def cum_qty(self) -> int:
        return sum(quantity for quantity, _ in self.trades.values())

    @property
    def cum_notional(self) -> int:
        return sum(quantity * price for quantity, price in self.trades.values())

    @property
    def leaves_qty(self) -> int:
        return 0 if self.ended else max(0, self.quantity - self.cum_qty)


@dataclass
class History:
    """What was sent, what the venue said of it in its own order, and what was true in the end."""

    attempts: list[AttemptStarted]
    reports: list[ExecutionReport]
    truths: list[Truth]


class Maker:
    """Draws one history."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.now = 0
        self.keys = 0
        self.naming = "always"

    def history(self, *, orders: int, naming: str, max_steps: int) -> History:
        self.naming = naming
        truths = [Truth(f"c{number}", f"o{number}", ids=[f"c{number}"]) for number in range(1, orders + 1)]
        reports = [self.say(truth, ExecType.NEW) for truth in truths if self.draw(st.booleans())]
        for _ in range(self.draw(st.integers(1, max_steps))):
            truth = self.draw(st.sampled_from(truths))
            reports += self.step(truth)
        submits = [an_attempt(AttemptKind.SUBMIT, truth.client_id, an_order(QUANTITY)) for truth in truths]
        return History([*submits, *(item for truth in truths for item in truth.requests)], reports, truths)

    def say(self, truth: Truth, exec_type: ExecType, **given: Any) -> ExecutionReport:
        """A report of now; the time moves on."""
        self.now += 1
        fields: dict[str, Any] = {
            "exec_type": exec_type,
            "symbol_id": "S",
            "side": Side.BUY,
            "client_order_id": truth.ids[-1],
            "exchange_order_id": truth.order_id if self.names_order() else None,
            "transact_time_ns": self.now * NS_PER_S,
        }
        if self.draw(st.booleans()):
            fields |= {"cum_qty": truth.cum_qty, "leaves_qty": truth.leaves_qty}
        if exec_type in (ExecType.NEW, ExecType.TRADE, ExecType.REPLACED, ExecType.RESTATED):
            fields["order_qty"] = truth.quantity
        return ExecutionReport(**{**fields, **given})

    def names_order(self) -> bool:
        """Whether this report carries the venue's order id."""
        return self.naming == "always" or (self.naming == "sometimes" and self.draw(st.booleans()))

    def key(self, prefix: str) -> str:
        self.keys += 1
        return f"{prefix}{self.keys}"

    def step(self, truth: Truth) -> Iterator[ExecutionReport]:
        """One thing that happens to an order; nothing where it can't."""
        happenings = (
            self.trade, self.trade, self.correct, self.bust, self.cancel, self.replace, self.expire, self.restate,
            self.look, self.done_for_day,
        )  # fmt: skip
        return self.draw(st.sampled_from(happenings))(truth)

    def trade(self, truth: Truth) -> Iterator[ExecutionReport]:
        """A trade; after the end too, as a trade that the venue's back office books late."""
        room = truth.quantity - truth.cum_qty
        if room > 0:
            key, size, price = self.key("t"), self.draw(st.integers(1, room)), self.draw(st.integers(1, 5))
            truth.trades[key] = (size, price)
            yield self.say(truth, ExecType.TRADE, fill_key=key, last_qty=size, last_px=price)

    def correct(self, truth: Truth) -> Iterator[ExecutionReport]:
        if truth.trades:
            ref = self.draw(st.sampled_from(sorted(truth.trades)))
            del truth.trades[ref]
            key, price = self.key("k"), self.draw(st.integers(1, 5))
            size = self.draw(st.integers(1, truth.quantity - truth.cum_qty))
            truth.trades[key] = (size, price)
            yield self.say(truth, ExecType.TRADE_CORRECT, fill_key=key, ref_fill_key=ref, last_qty=size, last_px=price)

    def bust(self, truth: Truth) -> Iterator[ExecutionReport]:
        if truth.trades:
            ref = self.draw(st.sampled_from(sorted(truth.trades)))
            del truth.trades[ref]
            yield self.say(truth, ExecType.TRADE_CANCEL, fill_key=self.key("b"), ref_fill_key=ref)

    def request(self, truth: Truth, kind: AttemptKind) -> tuple[dict[str, str], Iterator[ExecutionReport]]:
        """A cancel or an amend goes out; the venue may call it pending."""
        target, request_id = truth.ids[-1], self.key("r")
        truth.requests.append(
            an_attempt(kind, request_id, an_order(QUANTITY), number=self.keys, target_client_order_id=target)
        )
        names = {"client_order_id": request_id, "orig_client_order_id": target}
        pending = ExecType.PENDING_CANCEL if kind is AttemptKind.CANCEL else ExecType.PENDING_REPLACE
        return names, iter([self.say(truth, pending, **names)] if self.draw(st.booleans()) else [])

    def cancel(self, truth: Truth) -> Iterator[ExecutionReport]:
        if truth.ended:
            return
        names, pending = self.request(truth, AttemptKind.CANCEL)
        yield from pending
        if self.draw(st.booleans()):
            yield from self.trade(truth)
        if truth.leaves_qty == 0 or self.draw(st.booleans()):
            yield self.say(truth, ExecType.CANCEL_REJECTED, **names, cum_qty=None, leaves_qty=None)
            return
        truth.ended = OrdStatus.CANCELED
        yield self.say(truth, ExecType.CANCELED, **names)

    def replace(self, truth: Truth) -> Iterator[ExecutionReport]:
        if truth.ended:
            return
        names, pending = self.request(truth, AttemptKind.AMEND)
        yield from pending
        if self.draw(st.booleans()):
            yield from self.trade(truth)
        if self.draw(st.booleans()):
            yield self.say(truth, ExecType.REPLACE_REJECTED, **names, cum_qty=None, leaves_qty=None)
            return
        truth.quantity = max(truth.cum_qty, self.draw(st.integers(1, 2 * QUANTITY)))
        truth.ids.append(names["client_order_id"])
        yield self.say(truth, ExecType.REPLACED, **names)

    def restate(self, truth: Truth) -> Iterator[ExecutionReport]:
        if not truth.ended:
            truth.quantity = max(truth.cum_qty, self.draw(st.integers(1, 2 * QUANTITY)))
            yield self.say(truth, ExecType.RESTATED)

    def done_for_day(self, truth: Truth) -> Iterator[ExecutionReport]:
        if not truth.ended:
            yield self.say(truth, ExecType.DONE_FOR_DAY)
            yield self.say(truth, ExecType.RESTATED)

    def expire(self, truth: Truth) -> Iterator[ExecutionReport]:
        if truth.leaves_qty > 0:
            truth.ended = OrdStatus.EXPIRED
            yield self.say(truth, ExecType.EXPIRED)

    def look(self, truth: Truth) -> Iterator[ExecutionReport]:
        """The venue is asked; it answers with what it shows."""
        yield self.say(truth, ExecType.ORDER_STATUS, ord_status=shown_status(truth), order_qty=truth.quantity)


def shown_status(truth: Truth) -> OrdStatus:
    if truth.cum_qty >= truth.quantity:
        return OrdStatus.FILLED
    if truth.ended:
        return truth.ended
    return OrdStatus.PARTIALLY_FILLED if truth.cum_qty else OrdStatus.NEW


@st.composite
def histories(draw: st.DrawFn, *, max_steps: int = 8) -> History:
    """Histories of one order, with the venue's order id in all, some or none of its reports, or of two with it in all."""
    orders = draw(st.integers(1, 2))
    naming = "always" if orders > 1 else draw(st.sampled_from(["always", "sometimes", "never"]))
    return Maker(draw).history(orders=orders, naming=naming, max_steps=max_steps)


@st.composite
def deliveries(draw: st.DrawFn, reports: list[ExecutionReport]) -> list[ExecutionReport]:
    """The same reports in any order, some of them more than once."""
    again = draw(st.lists(st.sampled_from(reports), max_size=4)) if reports else []
    return draw(st.permutations([*reports, *again]))

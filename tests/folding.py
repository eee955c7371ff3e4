"""A log in a list: gives events envelopes as a log would, folds them, and answers reports as the kernel does.

Used by the tests of the pure core, which need neither a database nor a loop. It promises what a log promises (positions
and stream versions without gaps) and keeps every event it recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kernel.events import AttemptStarted, BaseEvent, IntentCreated, VenueSnapshotTaken, intent_stream
from kernel.lifecycle.decide_report import decide_report, event_of
from kernel.lifecycle.evolve import evolve
from kernel.lifecycle.record import Record
from kernel.models import AttemptKind, Evidence, ExecType, LookScope, OrderIntent
from kernel.order_spec import OrderType, Side, StandardOrder, TimeInForce
from kernel.venues.base import ExecutionReport
from tests.envelopes import envelope_by, with_envelope

NS_PER_S = 1_000_000_000
Evolve = Callable[[Record, BaseEvent], Record]


class Journal:
    """The records of some intents, and the events that made them."""

    def __init__(self, fold: Evolve = evolve) -> None:
        self._fold = fold
        self.records: dict[str, Record] = {}
        self.events: list[BaseEvent] = []

    def record(self, intent_id: str = "i") -> Record:
        """What is known of an intent; an empty record for one that nothing is known of."""
        return self.records.get(intent_id, Record(intent_id))

    def append(self, intent_id: str, *events: BaseEvent, now_ns: int | None = None) -> int:
        """Record events in an intent's stream; the position of the last one."""
        for event in events:
            known = self.record(intent_id)
            position = len(self.events) + 1
            envelope = envelope_by(
                position=position,
                stream_id=intent_stream(intent_id),
                version=known.version + 1,
                recorded_at_ns=position * NS_PER_S if now_ns is None else now_ns,
                actor="strategy:test",
                evidence=Evidence.STREAM,
            )
            recorded = with_envelope(event, envelope)
            self.events.append(recorded)
            self.records[intent_id] = self._fold(known, recorded)
        return len(self.events)

    def hear(
        self,
        intent_id: str,
        report: ExecutionReport,
        *,
        began_ns: int | None = None,
        reflects_ns: int | None = None,
        position: int | None = None,
    ) -> list[BaseEvent]:
        """Record what a report comes to; the events, none when it was no news (as `evolve` knows it: another fold gets
        every report)."""
        now_ns = (len(self.events) + 1) * NS_PER_S
        if self._fold is not evolve:
            self.append(
                intent_id,
                event_of(
                    self.record(intent_id), report, began_ns=began_ns, reflects_ns=None, attempt_position=position
                ),
            )
            return []
        events = decide_report(
            self.record(intent_id),
            report,
            now_ns=now_ns,
            began_ns=began_ns,
            reflects_ns=reflects_ns,
            attempt_position=position,
        )
        self.append(intent_id, *events, now_ns=now_ns)
        return events

    def query(self, intent_id: str = "i", *, client_id: str = "c1", found: bool = False, lists: bool = True) -> Record:
        """Record a status query, begun now, that did not show an order open; what is known then."""
        now_ns = (len(self.events) + 1) * NS_PER_S
        scopes = (LookScope.OPEN_ORDERS, LookScope.TRADES) if lists else (LookScope.ORDER,)
        taken = VenueSnapshotTaken(
            scopes=scopes, complete=True, began_ns=now_ns, ended_ns=now_ns, reflects_ns=now_ns, intent_id=intent_id,
            client_order_id=client_id, exchange_order_id=self.record(intent_id).orders[-1].exchange_order_id or None,
            found=found,
        )  # fmt: skip
        self.append(intent_id, taken, now_ns=now_ns)
        return self.record(intent_id)

    def hear_all(self, intent_id: str, reports: Iterable[ExecutionReport]) -> Record:
        """Hear one report after the other; what is known in the end."""
        for report in reports:
            self.hear(intent_id, report)
        return self.record(intent_id)


def an_order(quantity: int = 100, *, price: int | None = 10, tif: TimeInForce = TimeInForce.GTC) -> StandardOrder:
    """A buy order, LIMIT unless there is no price."""
    kind = OrderType.MARKET if price is None else OrderType.LIMIT
    expire_at_ns = 2**62 if tif is TimeInForce.GTD else None
    return StandardOrder(
        symbol_id="S",
        side=Side.BUY,
        order_type=kind,
        quantity=quantity,
        price=price,
        time_in_force=tif,
        expire_at_ns=expire_at_ns,
    )


def an_intent(order: StandardOrder | None = None, intent_id: str = "i", **given: Any) -> OrderIntent:
    """An intent for an order."""
    return OrderIntent(intent_id=intent_id, exchange_id="paper", order=order or an_order(), **given)


def an_attempt(
    kind: AttemptKind, client_id: str, order: StandardOrder, *, number: int = 1, intent_id: str = "i", **given: Any
) -> AttemptStarted:
    """A send of `order` under a client order id; a cancel or an amend names its target in `given`."""
    fields: dict[str, Any] = {
        "intent_id": intent_id,
        "number": number,
        "kind": kind,
        "client_order_id": client_id,
        "order": order,
        "generation": 1,
        "epoch": 1,
        "stamp_ns": 1,
        "send_by_ns": 2,
        "state_position": 0,
        "decided_at_ns": 1,
    }
    return AttemptStarted(**{**fields, **given})


def a_submitted_journal(order: StandardOrder | None = None, *, client_id: str = "c1", **given: Any) -> Journal:
    """A journal with one intent `i` whose order was sent."""
    order = order or an_order()
    journal = Journal()
    journal.append(
        "i", IntentCreated(intent=an_intent(order)), an_attempt(AttemptKind.SUBMIT, client_id, order, **given)
    )
    return journal


def a_report(
    exec_type: ExecType, *, at: int | None = None, client_id: str | None = "c1", **given: Any
) -> ExecutionReport:
    """A report of symbol S under a client order id, `at` seconds venue time."""
    time_ns = None if at is None else at * NS_PER_S
    return ExecutionReport(
        exec_type=exec_type, symbol_id="S", client_order_id=client_id, transact_time_ns=time_ns, **given
    )


def a_trade(key: str, quantity: int, price: int = 10, *, at: int | None = None, **given: Any) -> ExecutionReport:
    """A trade of a buy order."""
    return a_report(ExecType.TRADE, at=at, side=Side.BUY, fill_key=key, last_qty=quantity, last_px=price, **given)


def a_correction(
    key: str, ref: str, quantity: int, price: int = 10, *, at: int | None = None, **given: Any
) -> ExecutionReport:
    """A correction of the trade `ref`."""
    return a_report(
        ExecType.TRADE_CORRECT,
        at=at,
        side=Side.BUY,
        fill_key=key,
        ref_fill_key=ref,
        last_qty=quantity,
        last_px=price,
        **given,
    )


def a_bust(key: str, ref: str, *, at: int | None = None, **given: Any) -> ExecutionReport:
    """A bust of the trade `ref`."""
    return a_report(ExecType.TRADE_CANCEL, at=at, fill_key=key, ref_fill_key=ref, **given)

"""Injected faults between a client and the paper exchange.

`exchange` draws a fault for each request and each report and applies it. Nothing here waits or sends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Protocol

from kernel.clock import NS_PER_S
from kernel.errors import Violation
from kernel.order_spec import InstantNs
from kernel.values import Value


class FaultOperation(StrEnum):
    """An operation that a fault can affect."""

    SUBMIT = "submit"
    SUBMIT_GROUP = "submit_group"
    CANCEL = "cancel"
    MODIFY = "modify"
    ORDER = "order"
    SNAPSHOT = "snapshot"
    REPORT = "report"


class FaultKind(StrEnum):
    """The failure. "Executed" means that the exchange carries the request out."""

    NOT_SENT = "not_sent"
    """The request does not leave the client."""
    REQUEST_LOST = "request_lost"
    """The request never arrives; the client times out."""
    REQUEST_LATE = "request_late"
    """The request arrives after the delay; the client times out."""
    REQUEST_DOUBLED = "request_doubled"
    """The request arrives again after the delay; the second answer is lost."""
    ANSWER_LOST = "answer_lost"
    """Executed; the answer is lost."""
    ANSWER_LATE = "answer_late"
    """Executed; the answer arrives after the delay."""
    SERVER_ERROR = "server_error"
    """Executed; the answer is a 503."""
    DISCONNECT = "disconnect"
    """The connection breaks before the request arrives."""
    DISCONNECT_AFTER = "disconnect_after"
    """Executed; the connection breaks before the answer."""
    DUPLICATE_REFUSAL = "duplicate_refusal"
    """Executed; the answer is the refusal of a duplicate."""
    UNSOLICITED_CANCEL = "unsolicited_cancel"
    """The order is accepted; the exchange cancels it after the delay."""
    BARE_CANCEL = "bare_cancel"
    """The order is canceled; answer and report carry no CumQty and LeavesQty."""
    SNAPSHOT_STALE = "snapshot_stale"
    """The snapshot is as old as the delay; complete only within the declared read lag."""
    SNAPSHOT_PARTIAL = "snapshot_partial"
    """Open orders are missing and the snapshot is marked incomplete."""
    SNAPSHOT_FAILED = "snapshot_failed"
    """The query fails with a 503."""
    REPORT_LOST = "report_lost"
    """The report never arrives."""
    REPORT_DOUBLED = "report_doubled"
    """The report arrives twice."""
    REPORT_REORDERED = "report_reordered"
    """The report arrives after the next one, or after the delay if there is none."""
    REPORT_LATE = "report_late"
    """The report arrives after the delay."""


_ANY_REQUEST = frozenset(FaultOperation) - {FaultOperation.REPORT}
_APPLIES: Mapping[FaultKind, frozenset[FaultOperation]] = {
    FaultKind.DUPLICATE_REFUSAL: frozenset({FaultOperation.SUBMIT, FaultOperation.SUBMIT_GROUP, FaultOperation.MODIFY}),
    FaultKind.UNSOLICITED_CANCEL: frozenset({FaultOperation.SUBMIT}),
    FaultKind.BARE_CANCEL: frozenset({FaultOperation.CANCEL}),
    FaultKind.SNAPSHOT_STALE: frozenset({FaultOperation.SNAPSHOT}),
    FaultKind.SNAPSHOT_PARTIAL: frozenset({FaultOperation.SNAPSHOT}),
    FaultKind.SNAPSHOT_FAILED: frozenset({FaultOperation.SNAPSHOT}),
    FaultKind.REPORT_LOST: frozenset({FaultOperation.REPORT}),
    FaultKind.REPORT_DOUBLED: frozenset({FaultOperation.REPORT}),
    FaultKind.REPORT_REORDERED: frozenset({FaultOperation.REPORT}),
    FaultKind.REPORT_LATE: frozenset({FaultOperation.REPORT}),
}


def operations_of(kind: FaultKind) -> frozenset[FaultOperation]:
    return _APPLIES.get(kind, _ANY_REQUEST)


class Fault(Value):
    """A fault that happens once."""

    kind: FaultKind
    operation: FaultOperation
    """The next operation of this kind is affected."""
    delay_ns: InstantNs = 0
    """The delay, for kinds that have one."""
    client_order_id: str | None = None
    """Affects only this order; None for any."""

    def contradictions(self) -> list[Violation]:
        if self.operation in operations_of(self.kind):
            return []
        text = "a fault {value} cannot affect {limit}"
        return [Violation("operation", "combination", self.operation, self.kind, text)]


class FaultSource(Protocol):
    """The source of an exchange's faults."""

    def draw(self, operation: FaultOperation, client_order_id: str | None) -> Fault | None:
        """Return the fault for this operation, if any."""


class FaultPlan:
    """Scripted faults, each used once."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self.pending: list[Fault] = list(faults)
        """The faults that have not happened yet."""

    def add(self, fault: Fault) -> None:
        self.pending.append(fault)

    def draw(self, operation: FaultOperation, client_order_id: str | None) -> Fault | None:
        """Remove and return the first fault that fits."""
        for index, fault in enumerate(self.pending):
            if fault.operation is operation and fault.client_order_id in (None, client_order_id):
                return self.pending.pop(index)
        return None


def fault(kind: FaultKind | str, operation: FaultOperation | str, *, delay_s: float = 0) -> Fault:
    """Build a fault, as in `fault("answer_lost", "submit")`."""
    return Fault.checked(kind=FaultKind(kind), operation=FaultOperation(operation), delay_ns=round(delay_s * NS_PER_S))

"""Faults on demand: what goes wrong between a client and the paper exchange, by script or by chance under a seed.

`paper_exchange` asks for the next fault of each request and of each report, and carries it out. `FaultPlan` gives
scripted faults, each once and in order, and otherwise what its `FaultRates` draw. Nothing here waits or sends.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Protocol, Self

import pydantic

from kernel.clock import NS_PER_MS, NS_PER_S
from kernel.errors import ValidationError, Violation
from kernel.order_spec import InstantNs, Model


class FaultOperation(StrEnum):
    """What a fault can hit."""

    SUBMIT = "submit"
    SUBMIT_GROUP = "submit_group"
    CANCEL = "cancel"
    MODIFY = "modify"
    ORDER = "order"
    SNAPSHOT = "snapshot"
    REPORT = "report"


class FaultKind(StrEnum):
    """What goes wrong."""

    NOT_SENT = "not_sent"
    """The request does not leave the client."""
    REQUEST_LOST = "request_lost"
    """It never arrives; the client times out."""
    REQUEST_LATE = "request_late"
    """It arrives after the delay; the client gets no answer and times out."""
    REQUEST_DOUBLED = "request_doubled"
    """It arrives a second time after the delay; the second answer is lost."""
    ANSWER_LOST = "answer_lost"
    """It is carried out; the answer is lost."""
    ANSWER_LATE = "answer_late"
    """It is carried out; the answer comes after the delay."""
    SERVER_ERROR = "server_error"
    """It is carried out and answered with a 503."""
    DISCONNECT = "disconnect"
    """The connection breaks before it arrives."""
    DISCONNECT_AFTER = "disconnect_after"
    """It is carried out and the connection breaks before the answer."""
    DUPLICATE_REFUSAL = "duplicate_refusal"
    """It is carried out, and the answer is that of a copy of the request: refused as a duplicate."""
    UNSOLICITED_CANCEL = "unsolicited_cancel"
    """The order is accepted, and after the delay the exchange cancels it by itself."""
    BARE_CANCEL = "bare_cancel"
    """The order is canceled; neither answer nor report tells CumQty and LeavesQty."""
    SNAPSHOT_STALE = "snapshot_stale"
    """The state shown is the delay old; complete only within the declared read lag."""
    SNAPSHOT_PARTIAL = "snapshot_partial"
    """Open orders are missing, and it says that it is not complete."""
    SNAPSHOT_FAILED = "snapshot_failed"
    """The query fails with a 503."""
    REPORT_LOST = "report_lost"
    """The report never comes."""
    REPORT_DOUBLED = "report_doubled"
    """It comes twice."""
    REPORT_REORDERED = "report_reordered"
    """It comes behind the one after it, or after the delay if there is none."""
    REPORT_LATE = "report_late"
    """It comes after the delay."""


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
    """What a kind of fault can hit."""
    return _APPLIES.get(kind, _ANY_REQUEST)


class Fault(Model):
    """One fault, to happen once."""

    kind: FaultKind
    """What goes wrong."""
    operation: FaultOperation
    """What it hits: the next one."""
    delay_ns: InstantNs = 0
    """How late, where the kind speaks of a delay."""
    client_order_id: str | None = None
    """Hits only what concerns this client order id; none: whatever comes next."""

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Self:
        if self.operation not in operations_of(self.kind):
            raise ValueError(f"{self.kind} cannot hit {self.operation}")
        return self


class FaultSource(Protocol):
    """Where the exchange gets its faults from."""

    def draw(self, operation: FaultOperation, client_order_id: str | None) -> Fault | None:
        """The fault that hits this one; None for none."""


class FaultRates:
    """Faults by chance: for each operation, how probable each kind is."""

    def __init__(
        self,
        seed: int,
        rates: Mapping[tuple[FaultOperation | str, FaultKind | str], float],
        *,
        delay_ns_min: int = NS_PER_MS,
        delay_ns_max: int = 2 * NS_PER_S,
    ) -> None:
        """`rates` maps (operation, kind) to a probability; delays are drawn between the two bounds."""
        self._random = random.Random(seed)
        self._delays = (delay_ns_min, delay_ns_max)
        self._rates: dict[FaultOperation, list[tuple[FaultKind, float]]] = {}
        for (operation, kind), rate in rates.items():
            fault = Fault(kind=FaultKind(kind), operation=FaultOperation(operation))
            self._rates.setdefault(fault.operation, []).append((fault.kind, _probability(fault, rate)))

    def draw(self, operation: FaultOperation, client_order_id: str | None) -> Fault | None:
        """The fault that chance has for this one. One number is drawn for each operation that has rates."""
        rates = self._rates.get(operation)
        if not rates:
            return None
        point = self._random.random()
        for kind, rate in rates:
            if point < rate:
                return Fault(kind=kind, operation=operation, delay_ns=self._random.randint(*self._delays))
            point -= rate
        return None


class FaultPlan:
    """Scripted faults, each once; behind them, faults by chance."""

    def __init__(self, faults: Iterable[Fault] = (), *, rates: FaultRates | None = None) -> None:
        self.pending: list[Fault] = list(faults)
        """The scripted faults that have not happened yet."""
        self.rates = rates
        """Faults by chance; none: only the script."""

    def add(self, fault: Fault) -> None:
        """Script one more fault, behind the others."""
        self.pending.append(fault)

    def draw(self, operation: FaultOperation, client_order_id: str | None) -> Fault | None:
        """The first scripted fault that fits, taken off the script; else what chance has."""
        for index, fault in enumerate(self.pending):
            if fault.operation is operation and fault.client_order_id in (None, client_order_id):
                return self.pending.pop(index)
        return self.rates.draw(operation, client_order_id) if self.rates else None


def fault(kind: FaultKind | str, operation: FaultOperation | str, *, delay_s: float = 0) -> Fault:
    """A fault in few words, as in `fault("answer_lost", "submit")`."""
    return Fault(kind=FaultKind(kind), operation=FaultOperation(operation), delay_ns=round(delay_s * NS_PER_S))


def _probability(fault: Fault, rate: float) -> float:
    if not 0 <= rate <= 1:
        field = f"{fault.operation}.{fault.kind}"
        raise ValidationError(violations=[Violation(field, "range", "a probability from 0 to 1", str(rate))])
    return rate

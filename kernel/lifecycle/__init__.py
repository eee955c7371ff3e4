"""What an order is in the course of time: facts in, statuses out. Pure; the heart of the kernel.

`decide` (a command → events), `decide_report` (a venue's report → events) and `evolve` (a record and an event → the next
record) are functions of their arguments. `table` holds the one table of states; `facts` the arithmetic of trades, busts
and evidence; `record` what is kept of one intent and how it is shown; `findings` what should not be.

Called by the controller, the reconciler, the event-sourced stores and the state; calls nobody.
"""

from kernel.lifecycle.decide import (
    CancelIntent,
    Command,
    CreateIntent,
    CreateState,
    DeleteIntent,
    ForgetState,
    ModifyIntent,
    PauseIntent,
    PlaceOrder,
    ResumeIntent,
    UpdateIntent,
    UpdateState,
    decide,
    next_intent,
)
from kernel.lifecycle.decide_report import decide_report
from kernel.lifecycle.decide_resolution import ResolveAttempt, ResolveFinding, require_evidence
from kernel.lifecycle.evolve import evolve
from kernel.lifecycle.findings import conditions, finding_id, raised, unreported_findings
from kernel.lifecycle.order_status import STATUS_PRECEDENCE, TERMINAL, ord_status
from kernel.lifecycle.record import (
    Record,
    VenueStatus,
    client_order_id,
    order_state,
    stops,
    venue_orders_of,
    venue_status,
)

__all__ = [
    "STATUS_PRECEDENCE",
    "TERMINAL",
    "CancelIntent",
    "Command",
    "CreateIntent",
    "CreateState",
    "DeleteIntent",
    "ForgetState",
    "ModifyIntent",
    "PauseIntent",
    "PlaceOrder",
    "Record",
    "ResolveAttempt",
    "ResolveFinding",
    "ResumeIntent",
    "UpdateIntent",
    "UpdateState",
    "VenueStatus",
    "client_order_id",
    "conditions",
    "decide",
    "decide_report",
    "evolve",
    "finding_id",
    "next_intent",
    "ord_status",
    "order_state",
    "raised",
    "require_evidence",
    "stops",
    "unreported_findings",
    "venue_orders_of",
    "venue_status",
]  # fmt: skip

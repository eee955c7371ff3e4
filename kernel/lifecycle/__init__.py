"""The order lifecycle: facts in, statuses out. Pure functions; they call nothing above this package.

- `shared_sequence`: the base of what is folded, and a sequence that grows in constant time.
- `trades`: the known trades of one order, an immutable sequence.
- `order_facts`: the facts of one venue order, and its quantities.
- `order_status`: the FIX order states as one table.
- `apply_report`: the change that each report makes to an order's facts.
- `attempt_outcome`: what an order's facts tell about an attempt.
- `trigger_chain`: orders that follow another: triggered stops, replaced orders.
- `record`: everything known about one intent, and the order state derived from it.
- `disagreement`: the backoff of attempts that change nothing.
- `settled_orders`: orders that ended long ago leave the record's view, and come back.
- `evolve`: a record and an event to the next record.
- `remediation`: the remedy for each kind of finding.
- `findings`: the conditions of an intent that need attention.
- `decide`: a command to events.
- `decide_resolution`: an operator's resolution of an attempt or a finding to events.
- `decide_report`: a venue report to events.
- `attribution`: requests whose outcome is not known; an external order that turns out to be such a request's to events.
"""

from kernel.lifecycle.attribution import (
    OrderRequest,
    attribution,
    attribution_reports,
    order_requests,
    stop_requests,
    trade_reports,
)  # fmt: skip
from kernel.lifecycle.decide import (
    CancelIntent,
    CreateIntent,
    CreateState,
    DeleteIntent,
    ForgetState,
    IntentCommand,
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
from kernel.lifecycle.decide_resolution import (
    AcceptTerms,
    AttributeOrder,
    ResolveAttempt,
    ResolveFinding,
    require_evidence,
)
from kernel.lifecycle.disagreement import (
    delay_ns,
    disagreement_text,
    is_disagreement_due,
    is_disagreement_over,
    next_failures,
)
from kernel.lifecycle.evolve import evolve
from kernel.lifecycle.findings import conditions, finding_id, raised, unreported_findings
from kernel.lifecycle.order_status import TERMINAL, ord_status
from kernel.lifecycle.record import (
    FIXED_TERMS,
    Record,
    client_order_id,
    order_state,
    same_price,
    stops,
    venue_orders_of,
)

__all__ = [
    "FIXED_TERMS", "TERMINAL", "AcceptTerms", "AttributeOrder", "CancelIntent", "CreateIntent", "CreateState",
    "DeleteIntent", "ForgetState", "IntentCommand", "ModifyIntent", "OrderRequest", "PauseIntent", "PlaceOrder",
    "Record", "ResolveAttempt", "ResolveFinding", "ResumeIntent", "UpdateIntent", "UpdateState", "attribution",
    "attribution_reports", "client_order_id", "conditions", "decide", "decide_report", "delay_ns", "disagreement_text",
    "evolve", "finding_id", "is_disagreement_due", "is_disagreement_over", "next_failures", "next_intent", "ord_status",
    "order_requests", "order_state", "raised", "require_evidence", "same_price", "stop_requests", "stops", "trade_reports",
    "unreported_findings", "venue_orders_of",
]  # fmt: skip

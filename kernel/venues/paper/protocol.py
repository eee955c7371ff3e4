"""The lines that a paper exchange and its client exchange: JSON objects, one a line, UTF-8.

Used by `paper_server` and `paper_client`, so that both sides have one idea of it. A client sends `{"id", "op", "params"}`
(parameters may also stand beside `op`); an answer is `{"id", "result"}` or `{"id", "error": {"type", "text", …}}`, with
`"usage": [{"kind", "window_ns", "used"}, …]` beside it where the exchange has rate limits; a report
comes unasked as `{"report": {…}}` on connections that said `subscribe`. Operations are `hello`, `subscribe`, `symbols`,
`assets`, those of the port, and the acts of `paper_admin`. Reports travel without `raw`, which is their own text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from kernel.errors import (
    KernelError,
    NotFoundError,
    NotSent,
    OutcomeUnknown,
    Rejected,
    ValidationError,
    VenueError,
)
from kernel.venues.base import (
    CancelRequest,
    ExecutionReport,
    ModifyRequest,
    RateUsage,
    SubmitGroupRequest,
    SubmitRequest,
    VenueCapabilities,
    VenueSnapshot,
)
from kernel.venues.paper.exchange import Answer, Request
from kernel.venues.paper.faults import FaultOperation
from kernel.venues.paper.matching.reports import sealed

REQUEST_BYTES_MAX = 2**20
"""Longest line that an exchange takes."""
ANSWER_BYTES_MAX = 2**28
"""Longest line that a client takes: a snapshot is one line."""
RETRY_AFTER_S_MAX = 7 * 86_400.0
"""Longest wait that a refusal may name; more is no answer."""
PROTOCOL_VERSION = 1
MODELS: dict[FaultOperation, type[SubmitRequest | SubmitGroupRequest | CancelRequest | ModifyRequest]] = {
    FaultOperation.SUBMIT: SubmitRequest,
    FaultOperation.SUBMIT_GROUP: SubmitGroupRequest,
    FaultOperation.CANCEL: CancelRequest,
    FaultOperation.MODIFY: ModifyRequest,
}
REQUESTS = {*MODELS, FaultOperation.ORDER, FaultOperation.SNAPSHOT}
"""The operations of the port that faults can hit."""
_NO_RAW = {"open_orders": {"__all__": {"raw"}}, "fills": {"__all__": {"raw"}}}


def parse_address(address: str) -> tuple[str, int] | str:
    """`host:port` as a pair, anything with a slash as the path of a socket. `ValidationError` for neither."""
    if "/" in address:
        return address.removeprefix("unix:")
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise ValidationError(f"{address!r} is no address: give host:port, or the path of a socket with a slash in it")
    return host.strip("[]") or "127.0.0.1", int(port)


def line(message: dict[str, Any]) -> bytes:
    """A message as its line. Half a surrogate pair, which UTF-8 cannot hold, travels as JSON's escape."""
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode(errors="backslashreplace") + b"\n"


def report_line(report: ExecutionReport) -> bytes:
    """A report that is pushed, as its line."""
    assert report.raw is not None, "a report of the exchange carries its own text"
    return b'{"report":' + report.raw.encode() + b"}\n"


def params_of(operation: FaultOperation, request: Request) -> dict[str, Any]:
    """A request as parameters."""
    match request:
        case int():
            return {"since_ns": request}
        case tuple():
            return {"symbol_id": request[0], "client_order_id": request[1]}
        case _:
            return request.model_dump(mode="json", exclude_none=True)


def request_of(operation: FaultOperation, params: dict[str, Any]) -> Request:
    """Parameters as the request; `ValueError` when they are not one."""
    if operation in MODELS:
        return MODELS[operation].model_validate(params)
    if operation is FaultOperation.ORDER:
        return text_of(params, "symbol_id"), text_of(params, "client_order_id")
    since_ns = params.get("since_ns", 0)
    if not isinstance(since_ns, int) or isinstance(since_ns, bool):
        raise ValueError("since_ns is no whole number")
    return since_ns


def text_of(params: dict[str, Any], name: str) -> str:
    """A parameter that is a text; `ValueError` when it is none."""
    value = params.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    return value


def result_of(answer: Answer) -> Any:
    """An answer as a JSON value."""
    match answer:
        case ExecutionReport():
            return answer.model_dump(mode="json", exclude_defaults=True, exclude={"raw"})
        case tuple():
            return [result_of(report) for report in answer]
        case VenueSnapshot():
            return answer.model_dump(mode="json", exclude_defaults=True, exclude=_NO_RAW)
        case None:
            return None


def answer_of(operation: FaultOperation, result: Any) -> Answer:
    """A JSON value as the answer to an operation; `ValueError` when it is not one."""
    if operation is FaultOperation.SNAPSHOT:
        snapshot = VenueSnapshot.model_validate(result)
        return snapshot.model_copy(
            update={
                "open_orders": tuple(map(sealed, snapshot.open_orders)),
                "fills": tuple(map(sealed, snapshot.fills)),
            }
        )
    if result is None and operation is FaultOperation.ORDER:
        return None
    if operation is FaultOperation.SUBMIT_GROUP:
        if not isinstance(result, list):
            raise ValueError("the answer to a group is a list of reports")
        return tuple(map(decode_report, result))
    return decode_report(result)


def check_concerns(request: Request, answer: Answer) -> None:
    """`ValueError` when an answer is about another order than the request: it says nothing of this one."""
    match request, answer:
        case SubmitGroupRequest(), tuple():
            asked = [(member.order.symbol_id, member.client_order_id) for member in request.orders]
            answered_ids = [(report.symbol_id, report.client_order_id) for report in answer]
        case SubmitRequest(), ExecutionReport():
            asked = [(request.order.symbol_id, request.client_order_id)]
            answered_ids = [(answer.symbol_id, answer.client_order_id)]
        case CancelRequest(), ExecutionReport():
            asked = [(request.symbol_id, request.client_order_id)]
            answered_ids = [(answer.symbol_id, answer.client_order_id)]
        case (str(symbol_id), str(client_order_id)), ExecutionReport():
            asked = [(symbol_id, client_order_id)]
            answered_ids = [(answer.symbol_id, _asked_for(answer, client_order_id))]
        case _:
            return
    if answered_ids != asked:
        raise ValueError(f"it is about {answered_ids}, not about {asked}")


def _asked_for(answer: ExecutionReport, client_order_id: str) -> str | None:
    """By which of its names an order was asked for: an amended order has another than it had."""
    renamed = answer.orig_client_order_id == client_order_id
    return answer.orig_client_order_id if renamed else answer.client_order_id


def decode_report(value: Any) -> ExecutionReport:
    """A JSON value as a report, its text put back."""
    return sealed(ExecutionReport.model_validate(value))


def error_value(error: KernelError) -> dict[str, Any]:
    """An error as a JSON value."""
    value: dict[str, Any] = {"type": type(error).__name__, "text": str(error)}
    if isinstance(error, VenueError):
        value |= {"text": error.text, "code": error.code}
    if isinstance(error, Rejected):
        value |= {"retry_after_s": error.retry_after_s, "rate_limit": error.rate_limit}
    if isinstance(error, OutcomeUnknown):
        value["duplicate"] = error.duplicate
    return value


def error_of(value: Any) -> KernelError:
    """A JSON value as the error; what cannot be read settles nothing."""
    fields = value if isinstance(value, dict) else {}
    text, code = json_value(fields.get("text", value)), fields.get("code")
    code = None if code is None else json_value(code)
    match fields.get("type"):
        case "Rejected" if is_wait(fields.get("retry_after_s")):
            limit = fields.get("rate_limit")
            rate_limit = None if limit is None else json_value(limit)
            return Rejected(text, code=code, retry_after_s=fields.get("retry_after_s"), rate_limit=rate_limit)
        case "NotSent":
            return NotSent(text, code=code)
        case "ValidationError":
            return ValidationError(text)
        case "NotFoundError":
            return NotFoundError(text)
        case _:
            return OutcomeUnknown(text, code=code, duplicate=bool(fields.get("duplicate")))


def usage_value(usage: Iterable[RateUsage]) -> list[dict[str, Any]]:
    """What the exchange has counted, as a JSON value."""
    return [item.model_dump(mode="json") for item in usage]


def usage_of(value: Any) -> tuple[RateUsage, ...]:
    """A JSON value as what the exchange has counted; `ValueError` when it is not that."""
    if not isinstance(value, list):
        raise ValueError("usage is a list")
    return tuple(map(RateUsage.model_validate, value))


def json_value(value: Any) -> str:
    """A JSON value as a text that UTF-8 can hold."""
    return str(value).encode(errors="backslashreplace").decode()


def is_wait(value: Any) -> bool:
    """Whether a value is none, or seconds that can be waited."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (number and 0 <= value <= RETRY_AFTER_S_MAX)


def hello(capabilities: VenueCapabilities) -> dict[str, Any]:
    """What an exchange says of itself."""
    return {"version": PROTOCOL_VERSION, "capabilities": capabilities.model_dump(mode="json")}

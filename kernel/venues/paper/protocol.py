"""The protocol between a paper exchange and its clients: JSON objects, one per line, UTF-8.

A client sends `{"id", "op", "params"}` (parameters may also stand beside `op`). The answer is `{"id", "result"}` or
`{"id", "error": {"type", "text", …}}`, with `"usage": [{"kind", "window_ns", "used"}, …]` if the exchange has rate limits.
After `subscribe` the server pushes reports as `{"report": {…}}`. Operations are `hello`, `subscribe`, `symbols`, `assets`,
`time`, those of `Venue`, and those of `admin`. Reports travel without `raw`, which is their own text.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from msgspec import structs

from kernel.errors import KernelError, NotFoundError, NotSent, OutcomeUnknown, Rejected, ValidationError, VenueError
from kernel.values import as_json
from kernel.values.edge import adapter, validated
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
from kernel.venues.paper.matching.reports import frame, sealed

REQUEST_BYTES_MAX = 2**20
"""Longest line that a server accepts."""
ANSWER_BYTES_MAX = 2**28
"""Longest line that a client accepts; a snapshot is one line."""
RETRY_AFTER_S_MAX = 7 * 86_400.0
"""Longest wait that a client accepts in a refusal."""
PROTOCOL_VERSION = 1
MODELS: dict[FaultOperation, type[SubmitRequest | SubmitGroupRequest | CancelRequest | ModifyRequest]] = {
    FaultOperation.SUBMIT: SubmitRequest,
    FaultOperation.SUBMIT_GROUP: SubmitGroupRequest,
    FaultOperation.CANCEL: CancelRequest,
    FaultOperation.MODIFY: ModifyRequest,
}
ORDER_PARAMS = ("symbol_id", "client_order_id", "exchange_order_id")
REQUESTS = {*MODELS, FaultOperation.ORDER, FaultOperation.SNAPSHOT}
"""The operations of `Venue` that faults can affect."""


def parse_address(address: str) -> tuple[str, int] | str:
    """Parse `host:port` into a pair; return anything with a slash as the path of a Unix socket.

    Raises `ValidationError` if the address is neither.
    """
    if "/" in address:
        return address.removeprefix("unix:")
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise ValidationError(f"address {address!r} is invalid: give HOST:PORT, or the path of a socket with a slash")
    return host.strip("[]") or "127.0.0.1", int(port)


def line(message: dict[str, Any]) -> bytes:
    """Encode a message. A lone surrogate, which UTF-8 cannot encode, becomes a JSON escape."""
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode(errors="backslashreplace") + b"\n"


def report_line(report: ExecutionReport) -> bytes:
    assert report.raw is not None, "`sealed` sets the text of every report"
    return b'{"report":' + report.raw.encode() + b"}\n"


def params_of(operation: FaultOperation, request: Request) -> dict[str, Any]:
    """Encode a request as parameters."""
    match request:
        case int():
            return {"since_ns": request}
        case tuple():
            return dict(zip(ORDER_PARAMS, request, strict=True))
        case _:
            params: dict[str, Any] = msgspec.to_builtins(request)
            return params


def request_of(operation: FaultOperation, params: dict[str, Any]) -> Request:
    """Decode a request; raises `ValueError` if the parameters are invalid."""
    if operation in MODELS:
        request: Request = adapter(MODELS[operation]).validate_python(params)
        return request
    if operation is FaultOperation.ORDER:
        symbol_id, client_order_id, exchange_order_id = (params.get(name) for name in ORDER_PARAMS)
        ids = (client_order_id, exchange_order_id)
        if not isinstance(symbol_id, str) or not all(isinstance(name, str | None) for name in ids) or not any(ids):
            raise ValueError("`symbol_id`, and `client_order_id` or `exchange_order_id`, must be strings")
        return symbol_id, client_order_id, exchange_order_id
    since_ns = params.get("since_ns", 0)
    if not isinstance(since_ns, int) or isinstance(since_ns, bool):
        raise ValueError("`since_ns` must be an integer")
    return since_ns


def result_of(answer: Answer) -> Any:
    match answer:
        case ExecutionReport():
            return frame(answer)
        case tuple():
            return [result_of(report) for report in answer]
        case VenueSnapshot():
            reports = {name: [frame(item) for item in getattr(answer, name)] for name in ("open_orders", "fills")}
            return as_json(answer, defaults=False) | {name: found for name, found in reports.items() if found}
        case None:
            return None


def answer_of(operation: FaultOperation, result: Any) -> Answer:
    """Decode an answer; raises `ValueError` if it is invalid."""
    if operation is FaultOperation.SNAPSHOT:
        snapshot = validated(result, VenueSnapshot)
        return structs.replace(
            snapshot, open_orders=tuple(map(sealed, snapshot.open_orders)), fills=tuple(map(sealed, snapshot.fills))
        )
    if result is None and operation is FaultOperation.ORDER:
        return None
    if operation is FaultOperation.SUBMIT_GROUP:
        if not isinstance(result, list):
            raise ValueError("the answer to a group must be a list of reports")
        return tuple(map(decode_report, result))
    return decode_report(result)


def check_concerns(request: Request, answer: Answer) -> None:
    """Raise `ValueError` if an answer is about another order than the request."""
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
        case (str(symbol_id), str(client_order_id), _), ExecutionReport():
            asked = [(symbol_id, client_order_id)]
            answered_ids = [(answer.symbol_id, _asked_for(answer, client_order_id))]
        case (str(symbol_id), None, str(exchange_order_id)), ExecutionReport():
            asked = [(symbol_id, exchange_order_id)]
            answered_ids = [(answer.symbol_id, answer.exchange_order_id or "")]
        case _:
            return
    if answered_ids != asked:
        raise ValueError(f"the answer is about {answered_ids}, not about {asked}")


def _asked_for(answer: ExecutionReport, client_order_id: str) -> str | None:
    """Return the name by which an order was queried: an amended order has two."""
    renamed = answer.orig_client_order_id == client_order_id
    return answer.orig_client_order_id if renamed else answer.client_order_id


def decode_report(value: Any) -> ExecutionReport:
    """Decode a report and restore its `raw` text."""
    return sealed(validated(value, ExecutionReport))


def error_value(error: KernelError) -> dict[str, Any]:
    value: dict[str, Any] = {"type": type(error).__name__, "text": str(error)}
    if isinstance(error, VenueError):
        value |= {"text": error.text, "code": error.code}
    if isinstance(error, Rejected):
        value |= {"retry_after_s": error.retry_after_s, "rate_limit": error.rate_limit, "timestamp": error.timestamp}
    if isinstance(error, OutcomeUnknown):
        value["duplicate"] = error.duplicate
    return value


def error_of(value: Any) -> KernelError:
    """Decode an error. An unreadable one becomes `OutcomeUnknown`."""
    fields = value if isinstance(value, dict) else {}
    text, code = json_value(fields.get("text", value)), fields.get("code")
    code = None if code is None else json_value(code)
    match fields.get("type"):
        case "Rejected" if is_wait(fields.get("retry_after_s")):
            limit = fields.get("rate_limit")
            rate_limit = None if limit is None else json_value(limit)
            timestamp = bool(fields.get("timestamp"))
            wait_s = fields.get("retry_after_s")
            return Rejected(text, code=code, retry_after_s=wait_s, rate_limit=rate_limit, timestamp=timestamp)
        case "NotSent":
            return NotSent(text, code=code)
        case "ValidationError":
            return ValidationError(text)
        case "NotFoundError":
            return NotFoundError(text)
        case _:
            return OutcomeUnknown(text, code=code, duplicate=bool(fields.get("duplicate")))


def usage_of(value: Any) -> tuple[RateUsage, ...]:
    """Decode the rate-limit counters; raises `ValueError` if they are invalid."""
    if not isinstance(value, list):
        raise ValueError("`usage` must be a list")
    return tuple(validated(item, RateUsage) for item in value)


def json_value(value: Any) -> str:
    """Return the value as text that UTF-8 can encode."""
    return str(value).encode(errors="backslashreplace").decode()


def is_wait(value: Any) -> bool:
    """Return whether the value is None or a wait in seconds within `RETRY_AFTER_S_MAX`."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (number and 0 <= value <= RETRY_AFTER_S_MAX)


def hello(capabilities: VenueCapabilities) -> dict[str, Any]:
    return {"version": PROTOCOL_VERSION, "capabilities": as_json(capabilities)}

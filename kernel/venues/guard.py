"""`GuardedVenue`: a venue whose calls raise only the three venue errors, whatever its adapter does.

Wrapped around every venue by the reconciliation engine. Any other exception, and an answer of the wrong type, is a defect
of the adapter: the outcome of the call is unknown, and `on_defect` is called with the place in the adapter's code. A
defect in `reports` ends the stream; one in `recorded` or `rate_usage` is reported and has no other effect.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import TypeGuard, TypeVar

from pydantic import BaseModel, ValidationError

from kernel.errors import KernelError, OutcomeUnknown, Rejected, VenueError
from kernel.models import ExecType
from kernel.order_spec import AssetMetadata, SymbolMetadata
from kernel.venues.base import (
    CancelRequest,
    ExecutionReport,
    ModifyRequest,
    RateUsage,
    SubmitGroupRequest,
    SubmitRequest,
    Venue,
    VenueCapabilities,
    VenueRequest,
    VenueSnapshot,
)

logger = logging.getLogger(__name__)
CHANGES = frozenset({"submit", "submit_group", "modify", "cancel"})
"""Calls that change an order."""
CLOSE_TIMEOUT_S = 10.0
"""Longest wait for the end of a session."""
TRADES = frozenset({ExecType.TRADE, ExecType.TRADE_CORRECT, ExecType.TRADE_CANCEL})
NO_NUMBERS = dict.fromkeys(
    ("order_qty", "price", "last_qty", "last_px", "cum_qty", "leaves_qty", "fee", "fees", "order")
)
Answer = TypeVar("Answer")
Request = TypeVar("Request", bound=VenueRequest)


@dataclass(frozen=True, slots=True)
class AdapterDefect:
    """An exception that is none of the three venue errors, or an answer of the wrong type."""

    call: str
    """The call of the port that raised it."""
    error: str
    """The exception's class."""
    text: str
    """The exception's text."""
    place: str
    """File and line in the adapter."""

    def __str__(self) -> str:
        return f"{self.call} of the venue adapter raised {self.error} at {self.place}: {self.text}"

    @property
    def name(self) -> str:
        """Return a name that is the same for the same defect."""
        return f"{self.call}/{self.error}/{self.place}"


class AdapterError(OutcomeUnknown):
    """A defect of the adapter, as the outcome of its call."""

    def __init__(self, defect: AdapterDefect) -> None:
        super().__init__(str(defect), code="ADAPTER_ERROR")


class GuardedVenue(Venue):
    """A venue whose defects become `AdapterError`."""

    def __init__(self, venue: Venue) -> None:
        self.inner = venue
        self.on_defect: Callable[[AdapterDefect], None] = lambda defect: None
        self.on_answer: Callable[[], None] = lambda: None
        """Called when the venue has answered a request that changes an order."""
        self.on_timestamp_refused: Callable[[], None] = lambda: None
        """Called when the venue refuses a request for its timestamp."""
        self.lead_ns: Callable[[], int] = lambda: 0
        """Returns by how much this host's clock is ahead of the venue's, as far as is known."""
        self.stamp_shift_ns = 0
        """Added to the stamps of requests, so that they are in venue time."""
        self.quarantined: frozenset[str] = frozenset()
        """Symbols whose numbers do not have the log's scales."""

    @property
    def capabilities(self) -> VenueCapabilities:
        return self._read("capabilities", lambda: self.inner.capabilities, is_capabilities)

    @property
    def rate_usage(self) -> tuple[RateUsage, ...]:
        """Return the venue's counters; none after a defect, as a call's answer counts more than they do."""
        try:
            return self._read("rate_usage", lambda: self.inner.rate_usage, is_usage)
        except AdapterError:
            return ()

    async def connect(self) -> None:
        await self._call("connect", is_anything)

    async def close(self) -> None:
        """Close the session; a session whose close fails or takes too long counts as closed."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._call("close", is_anything)
        except (VenueError, TimeoutError) as problem:
            logger.warning("closing the session with the venue failed: %r", problem)

    async def submit(self, request: SubmitRequest) -> ExecutionReport:
        return self._stripped(await self._call("submit", is_report, self._shifted(request)))

    async def submit_group(self, request: SubmitGroupRequest) -> list[ExecutionReport]:
        orders = tuple(map(self._shifted, request.orders))
        group = self._shifted(request).model_copy(update={"orders": orders})
        return await self._call("submit_group", list_of(ExecutionReport), group)

    async def modify(self, request: ModifyRequest) -> ExecutionReport:
        return self._stripped(await self._call("modify", is_report, self._shifted(request)))

    async def cancel(self, request: CancelRequest) -> ExecutionReport:
        return self._stripped(await self._call("cancel", is_report, self._shifted(request)))

    async def order(
        self, symbol_id: str, client_order_id: str | None, exchange_order_id: str | None
    ) -> ExecutionReport | None:
        found = await self._call("order", is_report_or_none, symbol_id, client_order_id, exchange_order_id)
        return None if found is None else self._stripped(found)

    async def snapshot(self, since_ns: int, symbols: Sequence[str]) -> VenueSnapshot:
        found = await self._call("snapshot", is_snapshot, since_ns, symbols)
        if not self.quarantined:
            return found
        fills = tuple(report for report in found.fills if self.fitting(report) is not None)
        return found.model_copy(update={"open_orders": tuple(map(self._stripped, found.open_orders)), "fills": fills})

    async def time_ns(self) -> int:
        return await self._call("time_ns", is_integer)

    def recorded(self, report: ExecutionReport) -> None:
        """See `Venue.recorded`. A venue without the method takes no note."""
        take_note = getattr(self.inner, "recorded", None)
        if take_note is not None:
            try:
                take_note(report)
            except Exception as problem:
                self.note_defect("recorded", problem)

    async def symbols(self) -> list[SymbolMetadata]:
        found = await self._call("symbols", list_of(SymbolMetadata))
        if nameless := [item for item in found if not isinstance(item.symbol_id, str)]:
            self.note_defect("symbols", TypeError(f"a symbol has no name: {_described(nameless[0])}"))
        return [item for item in found if item not in nameless]

    async def assets(self) -> list[AssetMetadata]:
        return await self._call("assets", list_of(AssetMetadata))

    async def reports(self) -> AsyncIterator[ExecutionReport | None]:
        """See `Venue.reports`; raises `VenueError` where the stream fails."""
        try:
            async for report in self.inner.reports():
                if report is not None and not is_report(report):
                    raise TypeError(f"yielded {_described(report)}, not a report")
                yield report
        except VenueError:
            raise
        except asyncio.CancelledError as problem:
            if is_canceled():
                raise
            raise self.note_defect("reports", problem) from problem
        except Exception as problem:
            raise self.note_defect("reports", problem) from problem

    def fitting(self, report: ExecutionReport) -> ExecutionReport | None:
        """Return what a report shows at the log's scales: of a quarantined symbol no numbers, and no trade at all."""
        if report.symbol_id in self.quarantined and report.exec_type in TRADES:
            return None
        return self._stripped(report)

    def _shifted(self, request: Request) -> Request:
        if not self.stamp_shift_ns:
            return request
        valid_until_ns = request.valid_until_ns
        shifted = {
            "stamp_ns": max(0, request.stamp_ns + self.stamp_shift_ns),
            "valid_until_ns": None if valid_until_ns is None else max(0, valid_until_ns + self.stamp_shift_ns),
        }
        return request.model_copy(update=shifted)

    def _stripped(self, report: ExecutionReport) -> ExecutionReport:
        return report.model_copy(update=NO_NUMBERS) if report.symbol_id in self.quarantined else report

    async def _call(self, call: str, is_valid: Callable[[object], TypeGuard[Answer]], *arguments: object) -> Answer:
        try:
            answer: object = await getattr(self.inner, call)(*arguments)
            if call in CHANGES:
                self.on_answer()
            if not is_valid(answer):
                raise TypeError(f"the answer has the wrong type: {_described(answer)}")
            if isinstance(answer, ExecutionReport | VenueSnapshot) and (why := malformed(answer)):
                raise ValueError(f"the answer is malformed: {why}")
        except VenueError as problem:
            if isinstance(problem, Rejected) and problem.timestamp:
                self.on_timestamp_refused()
            raise
        except asyncio.CancelledError as problem:
            if is_canceled():
                raise
            raise self.note_defect(call, problem) from problem
        except Exception as problem:
            raise self.note_defect(call, problem) from problem
        return answer

    def _read(self, name: str, read: Callable[[], object], is_valid: Callable[[object], TypeGuard[Answer]]) -> Answer:
        try:
            value = read()
            if not is_valid(value):
                raise TypeError(f"the value has the wrong type: {_described(value)}")
            return value
        except VenueError:
            raise
        except Exception as problem:
            raise self.note_defect(name, problem) from problem

    def note_defect(self, call: str, problem: BaseException) -> AdapterError:
        """Log and report a defect; return the error that stands for it."""
        place = place_of(problem) or place_of_method(getattr(self.inner, call, None)) or "an unknown place"
        defect = AdapterDefect(call, type(problem).__name__, _described(problem), place)
        logger.error("%s", defect, exc_info=problem)
        self.on_defect(defect)
        return AdapterError(defect)

    @contextmanager
    def noting_unreadable(self) -> Iterator[None]:
        """Take what cannot be processed of a report for a defect: a field may have a wrong type all the same."""
        try:
            yield
        except (ValueError, TypeError, ArithmeticError, LookupError) as problem:
            if isinstance(problem, KernelError):
                raise
            self.note_defect("reports", problem)


def place_of(problem: BaseException) -> str | None:
    """Return the file and line of the innermost frame in the adapter's folder; None if the adapter only returned."""
    frames = [frame for frame in traceback.extract_tb(problem.__traceback__) if frame.filename != __file__]
    if not frames:
        return None
    folder = PurePath(frames[0].filename).parent
    place = next(frame for frame in reversed(frames) if folder in PurePath(frame.filename).parents)
    return f"{PurePath(place.filename).name}:{place.lineno}"


def place_of_method(method: object) -> str | None:
    """Return the file and line where a method begins."""
    code = getattr(method, "__code__", None)
    return None if code is None else f"{PurePath(code.co_filename).name}:{code.co_firstlineno}"


def is_canceled() -> bool:
    """Return whether the current task is being canceled; otherwise the adapter raised `CancelledError` by itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def malformed(model: BaseModel) -> str:
    """Return which field of an answer has a wrong value; empty if none has. Copies and constructed models may.

    Of a snapshot the reports are not looked into: one that cannot be processed is a defect by itself.
    """
    parts = (*(model.balances or {}).values(), *model.transfers) if isinstance(model, VenueSnapshot) else ()
    try:
        type(model).model_validate(dict(model))
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return next(filter(None, map(malformed, parts)), "")


def is_anything(answer: object) -> TypeGuard[object]:
    return True


def is_report(answer: object) -> TypeGuard[ExecutionReport]:
    return isinstance(answer, ExecutionReport)


def is_report_or_none(answer: object) -> TypeGuard[ExecutionReport | None]:
    return answer is None or is_report(answer)


def is_snapshot(answer: object) -> TypeGuard[VenueSnapshot]:
    return isinstance(answer, VenueSnapshot)


def is_capabilities(value: object) -> TypeGuard[VenueCapabilities]:
    return isinstance(value, VenueCapabilities)


def is_usage(value: object) -> TypeGuard[tuple[RateUsage, ...]]:
    return isinstance(value, tuple) and all(isinstance(item, RateUsage) for item in value)


def is_integer(answer: object) -> TypeGuard[int]:
    return type(answer) is int


def list_of(kind: type[Answer]) -> Callable[[object], TypeGuard[list[Answer]]]:
    def is_list(answer: object) -> TypeGuard[list[Answer]]:
        return isinstance(answer, list | tuple) and all(isinstance(item, kind) for item in answer)

    return is_list


def _described(value: object) -> str:
    """Return a value in at most 200 characters; one whose text cannot be made by its type alone."""
    try:
        return (str(value) or repr(value))[:200]
    except Exception:
        return f"a {type(value).__name__} without a text"

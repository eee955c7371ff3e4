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
from contextlib import contextmanager, suppress
from pathlib import PurePath
from typing import Any, TypeVar

import msgspec
from msgspec import structs

from kernel.errors import KernelError, OutcomeUnknown, Rejected, ValidationError, VenueError
from kernel.models import ExecType
from kernel.order_spec import AssetMetadata, SymbolMetadata
from kernel.values import Value
from kernel.values.edge import validated
from kernel.venues import base

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
Known = TypeVar("Known", bound=Value)
Request = TypeVar("Request", bound=base.VenueRequest)


class AdapterDefect(msgspec.Struct, frozen=True):
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


class GuardedVenue(base.Venue):
    """A venue whose defects become `AdapterError`."""

    def __init__(self, venue: base.Venue) -> None:
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
        self._known_capabilities: tuple[object, base.VenueCapabilities] | None = None

    @property
    def capabilities(self) -> base.VenueCapabilities:
        return self._read("capabilities", self._proven_capabilities)

    def _proven_capabilities(self) -> base.VenueCapabilities:
        declared, known = self.inner.capabilities, self._known_capabilities
        if known is None or known[0] != declared:
            known = self._known_capabilities = (declared, proven(declared, base.VenueCapabilities))
        return known[1]

    @property
    def rate_usage(self) -> tuple[base.RateUsage, ...]:
        """Return the venue's counters; none after a defect, as a call's answer counts more than they do."""
        try:
            return self._read("rate_usage", lambda: tuple(list_of(base.RateUsage)(self.inner.rate_usage)))
        except AdapterError:
            return ()

    async def connect(self) -> None:
        await self._call("connect", anything)

    async def close(self) -> None:
        """Close the session; a session whose close fails or takes too long counts as closed."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._call("close", anything)
        except (VenueError, TimeoutError) as problem:
            logger.warning("closing the session with the venue failed: %r", problem)

    async def submit(self, request: base.SubmitRequest) -> base.ExecutionReport:
        return self._stripped(await self._call("submit", report_of, self._shifted(request)))

    async def submit_group(self, request: base.SubmitGroupRequest) -> list[base.ExecutionReport]:
        orders = tuple(map(self._shifted, request.orders))
        group = structs.replace(self._shifted(request), orders=orders)
        return [*map(self._stripped, await self._call("submit_group", list_of(base.ExecutionReport), group))]

    async def modify(self, request: base.ModifyRequest) -> base.ExecutionReport:
        return self._stripped(await self._call("modify", report_of, self._shifted(request)))

    async def cancel(self, request: base.CancelRequest) -> base.ExecutionReport:
        return self._stripped(await self._call("cancel", report_of, self._shifted(request)))

    async def order(
        self, symbol_id: str, client_order_id: str | None, exchange_order_id: str | None
    ) -> base.ExecutionReport | None:
        found = await self._call("order", report_or_none, symbol_id, client_order_id, exchange_order_id)
        return None if found is None else self._stripped(found)

    async def snapshot(self, since_ns: int, symbols: Sequence[str]) -> base.VenueSnapshot:
        found = await self._call("snapshot", snapshot_of, since_ns, symbols)
        if not self.quarantined:
            return found
        fills = tuple(report for report in found.fills if self.fitting(report) is not None)
        return structs.replace(found, open_orders=tuple(map(self._stripped, found.open_orders)), fills=fills)

    async def time_ns(self) -> int:
        return await self._call("time_ns", integer_of)

    def recorded(self, report: base.ExecutionReport) -> None:
        """See `Venue.recorded`. A venue without the method takes no note."""
        take_note = getattr(self.inner, "recorded", None)
        if take_note is not None:
            try:
                take_note(report)
            except Exception as problem:
                self.note_defect("recorded", problem)

    async def symbols(self) -> list[SymbolMetadata]:
        found = await self._call("symbols", list_of(SymbolMetadata, as_given))
        if nameless := [item for item in found if not isinstance(item.symbol_id, str)]:
            self.note_defect("symbols", TypeError(f"a symbol has no name: {_described(nameless[0])}"))
        return [item for item in found if item not in nameless]

    async def assets(self) -> list[AssetMetadata]:
        return await self._call("assets", list_of(AssetMetadata, as_given))

    async def reports(self) -> AsyncIterator[base.ExecutionReport | None]:
        """See `Venue.reports`; raises `VenueError` where the stream fails."""
        try:
            async for item in self.inner.reports():
                yield None if item is None else as_given(item, base.ExecutionReport)
        except VenueError:
            raise
        except asyncio.CancelledError as problem:
            if is_canceled():
                raise
            raise self.note_defect("reports", problem) from problem
        except Exception as problem:
            raise self.note_defect("reports", problem) from problem

    def fitting(self, report: base.ExecutionReport) -> base.ExecutionReport | None:
        """Return what a report shows at the log's scales: of a quarantined symbol no numbers, and no trade at all."""
        if report.symbol_id in self.quarantined and report.exec_type in TRADES:
            return None
        return self._stripped(report)

    def _shifted(self, request: Request) -> Request:
        if not self.stamp_shift_ns:
            return request
        valid_until_ns = request.valid_until_ns
        return structs.replace(
            request,
            stamp_ns=max(0, request.stamp_ns + self.stamp_shift_ns),
            valid_until_ns=None if valid_until_ns is None else max(0, valid_until_ns + self.stamp_shift_ns),
        )

    def _stripped(self, report: base.ExecutionReport) -> base.ExecutionReport:
        return structs.replace(report, **NO_NUMBERS) if report.symbol_id in self.quarantined else report

    async def _call(self, call: str, read: Callable[[object], Answer], *arguments: object) -> Answer:
        try:
            answer: object = await getattr(self.inner, call)(*arguments)
            if call in CHANGES:
                self.on_answer()
            return read(answer)
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

    def _read(self, name: str, read: Callable[[], Answer]) -> Answer:
        try:
            return read()
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
    def noting_unreadable(self) -> Iterator[list[AdapterError]]:
        """Take what cannot be processed of a report for a defect: a field may lack, or have a wrong type all the same.

        Yields the list to which the defect is added.
        """
        noted: list[AdapterError] = []
        try:
            yield noted
        except (ValueError, TypeError, ArithmeticError, LookupError, OutcomeUnknown) as problem:
            if isinstance(problem, KernelError) and not isinstance(problem, ValidationError | OutcomeUnknown):
                raise
            noted.append(self.note_defect("reports", problem))


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


def anything(answer: object) -> object:
    return answer


def proven(answer: object, kind: type[Known]) -> Known:
    """Return a value of a kind with each field of its type: the given one if it is so, as `recorded` names it again.

    Raises `ValueError` with everything that is wrong with it.
    """
    if not isinstance(answer, kind):
        raise wrong_type(answer)
    try:
        found = validated(answer, kind)
        return answer if is_same(found, answer) else found
    except ValidationError as problem:
        raise ValueError(f"the answer is malformed: {listed(problem)}") from None  # whose place is not in the adapter


def is_same(one: Any, other: Any) -> bool:
    """Return whether two values are equal, and all parts of the same types: a text equals an enum's member."""
    if type(one) is not type(other) or one != other:
        return False
    if isinstance(one, Value):
        return all(is_same(getattr(one, name), getattr(other, name)) for name in one.__struct_fields__)
    return all(map(is_same, one, other)) if isinstance(one, tuple) else True


def listed(problem: ValidationError) -> str:
    return "; ".join(map(str, problem.violations))


def malformed(value: Value) -> str:
    """Return what is wrong with a value; empty if nothing is."""
    try:
        validated(value, type(value))
    except ValidationError as problem:
        return listed(problem)
    return ""


def as_given(answer: object, kind: type[Known]) -> Known:
    """Like `proven`, but a malformed value is returned as it is: it is a defect by itself, once it is used."""
    try:
        return proven(answer, kind)
    except ValueError:
        assert isinstance(answer, kind), "`proven` raises another error for other types"
        return answer


def report_of(answer: object) -> base.ExecutionReport:
    return proven(answer, base.ExecutionReport)


def report_or_none(answer: object) -> base.ExecutionReport | None:
    return None if answer is None else report_of(answer)


def snapshot_of(answer: object) -> base.VenueSnapshot:
    """Return a snapshot, of which a report may be malformed: the others count all the same."""
    try:
        return proven(answer, base.VenueSnapshot)
    except ValueError:
        reports = list_of(base.ExecutionReport, as_given)
        assert isinstance(answer, base.VenueSnapshot), "`proven` raises another error for other types"
        with suppress(TypeError):
            open_orders, fills = tuple(reports(answer.open_orders)), tuple(reports(answer.fills))
            rest = proven(structs.replace(answer, open_orders=(), fills=()), base.VenueSnapshot)
            return structs.replace(rest, open_orders=open_orders, fills=fills)
        raise


def integer_of(answer: object) -> int:
    if type(answer) is not int:
        raise wrong_type(answer)
    return answer


def list_of(
    kind: type[Known], read: Callable[[object, type[Known]], Known] = proven
) -> Callable[[object], list[Known]]:
    def items_of(answer: object) -> list[Known]:
        if not isinstance(answer, list | tuple):
            raise wrong_type(answer)
        return [read(item, kind) for item in answer]

    return items_of


def wrong_type(answer: object) -> TypeError:
    return TypeError(f"the answer has the wrong type: {_described(answer)}")


def _described(value: object) -> str:
    """Return a value in at most 200 characters; one whose text cannot be made by its type alone."""
    try:
        return (str(value) or repr(value))[:200]
    except Exception:
        return f"a {type(value).__name__} without a text"

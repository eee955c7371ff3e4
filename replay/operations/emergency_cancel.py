"""Cancel orders at the venue without the log, when the log cannot be written.

Called by `orderctl halt --break-glass` and by scripts in an emergency. It cancels every order that the venue lists as
open, including external ones, in rounds until a complete list is empty. It records nothing, so it sends only cancels,
which can be repeated safely; a kernel records the ended orders at its next relist. It respects the venue's rate limits,
since a venue may block a client that exceeds them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import msgspec

from kernel.actions import Priority
from kernel.clock import NS_PER_S, Clock, SystemClock
from kernel.errors import NotSent, Rejected, VenueError
from kernel.lifecycle.record import client_order_id
from kernel.metrics import Metrics
from kernel.order_spec import SymbolMetadata
from kernel.reconciler.rate_limiter import VenueRateLimiter
from kernel.reconciler.status_query import Answer, answer_within
from kernel.settings import KernelSettings
from kernel.venues.base import CancelRequest, ExecutionReport, Operation, Venue
from kernel.venues.guard import GuardedVenue
from replay.formatting.decimals import Scales

ROUNDS_MAX = 10
AT_ONCE = 16
"""Concurrent cancels."""
PAUSE_S = 0.2
"""Pause after a round of cancels, beyond the read lag of the venue."""
PAUSE_S_MAX = 10.0
"""Longest pause, even if the venue asks for a longer one, and longest wait for the rate limits."""
NOT_LOGGED = (
    "the log does not have these cancels: a kernel records the orders as canceled by the venue at its next relist, and then"
    " places intents with RECREATE again. To prevent that, run `orderctl halt` once the log is available, before a kernel"
)


class EmergencyCancelReport(msgspec.Struct):
    """The results so far."""

    show: Callable[[str], None]
    """Called with a line for each cancel: the order and the venue's answer."""
    seen: set[str] = set()
    """Venue ids of all orders that were listed as open."""
    left: set[str] = set()
    """Those in the newest list."""
    complete: bool = False
    """True if the newest list was complete."""

    @property
    def done(self) -> bool:
        """True if a complete list shows no open order."""
        return self.complete and not self.left

    @property
    def line(self) -> str:
        text = f"{len(self.seen)} found open, {len(self.seen - self.left)} gone, {len(self.left)} still open"
        if not self.complete:
            return f"{text}; the venue's list was incomplete, so there may be more. Run it again"
        return f"{text}: {', '.join(sorted(self.left))}. Run it again, or call the venue" if self.left else text


class RateLimitedVenue:
    """Calls one venue within its rate limits."""

    def __init__(self, venue: Venue, clock: Clock, *, timeout_s: float) -> None:
        self.venue = venue
        self.clock = clock
        self._timeout_s = timeout_s
        settings = KernelSettings.model_construct()  # bad environment variables must not prevent an emergency cancel
        self._rate_limiter = VenueRateLimiter(venue, clock=clock, settings=settings, metrics=Metrics())

    async def connect(self) -> None:
        """Connect and adopt the rate limits that the venue declares."""
        await self.ask(Operation.CONNECT, self.venue.connect)
        self._rate_limiter.declare()

    async def ask(self, operation: Operation, question: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return the venue's answer. Raises `NotSent` if the rate limits allow no call within `PAUSE_S_MAX`."""
        until_ns = self.clock.now_ns() + round(PAUSE_S_MAX * NS_PER_S)
        while (wait := self._rate_limiter.wait(Priority.CANCEL, operation)) is not None:
            if self.clock.now_ns() >= until_ns:
                raise NotSent(wait.reason)
            await self.clock.sleep_until(min(wait.until_ns, until_ns))
        with self._rate_limiter.permitted(Priority.CANCEL, operation) as permit, self._rate_limiter.calling(permit):
            return await answer_within(self._timeout_s, question())


async def emergency_cancel(
    venue: Venue,
    summary: EmergencyCancelReport,
    *,
    symbol_id: str | None = None,
    timeout_s: float = 5.0,
    clock: Clock | None = None,
) -> None:
    """Cancel every order that the venue lists as open, or those in a symbol; `summary` shows each answer.

    The venue is not connected yet, and closed at the end; `timeout_s` is that of each request. Raises `NotSent` if it
    cannot be reached, and `VenueError` if the first list of open orders fails.
    """
    clock, venue = clock or SystemClock(), GuardedVenue(venue)
    venue_calls = RateLimitedVenue(venue, clock, timeout_s=timeout_s)
    await venue_calls.connect()
    try:
        symbols = await symbols_of(venue_calls)
        scales, asked = Scales(symbols.get, lambda asset_id: None), sorted(symbols)
        for number in range(ROUNDS_MAX):
            found = await open_orders(venue_calls, summary, symbol_id, asked)
            if summary.done:
                return
            pause_s = PAUSE_S + venue.capabilities.read_lag.longest_ns / NS_PER_S
            for begin in range(0, len(found), AT_ONCE):
                some = found[begin : begin + AT_ONCE]
                for line, wait_s in await asyncio.gather(
                    *(cancel(venue_calls, report, scales, number) for report in some)
                ):
                    pause_s = max(pause_s, wait_s)
                    summary.show(line)
            await clock.sleep_until(clock.now_ns() + round(min(pause_s, PAUSE_S_MAX) * NS_PER_S))
        await open_orders(venue_calls, summary, symbol_id, asked)
    finally:
        await venue.close()


async def symbols_of(venue_calls: RateLimitedVenue) -> dict[str, SymbolMetadata]:
    """Return the venue's symbols; without an answer none, and numbers are shown as integers."""
    with suppress(VenueError):
        return {item.symbol_id: item for item in await venue_calls.ask(Operation.SYMBOLS, venue_calls.venue.symbols)}
    return {}


async def open_orders(
    venue_calls: RateLimitedVenue, summary: EmergencyCancelReport, symbol_id: str | None, symbols: Sequence[str]
) -> list[ExecutionReport]:
    """List open orders; `symbols` are all symbols of the venue.

    A failure after the first list returns nothing, and the next round lists again.
    """
    venue, now_ns = venue_calls.venue, venue_calls.clock.now_ns()
    symbols = symbols if symbol_id is None else [symbol_id]
    try:
        snapshot = await venue_calls.ask(Operation.SNAPSHOT, lambda: venue.snapshot(now_ns, symbols))
    except VenueError:
        if not summary.seen:
            raise
        summary.complete = False
        return []
    found = [report for report in snapshot.open_orders if symbol_id in (None, report.symbol_id)]
    summary.left = {report.exchange_order_id or report.client_order_id or "?" for report in found}
    summary.seen |= summary.left
    summary.complete = snapshot.open_orders_complete
    return found


async def cancel(
    venue_calls: RateLimitedVenue, report: ExecutionReport, scales: Scales, number: int
) -> tuple[str, float]:
    """Send one cancel; return a line of output and the seconds to wait before the next round."""
    order = order_text(report, scales)
    try:
        answer = await venue_calls.ask(
            Operation.CANCEL, lambda: venue_calls.venue.cancel(cancel_request(venue_calls, report, number))
        )
    except Rejected as refused:
        return f"{order} rejected: {refused}", refused.retry_after_s or 0.0
    except NotSent as problem:
        return f"{order} not sent: {problem}", 0.0
    except VenueError as problem:
        return f"{order} unknown: {problem}", 0.0
    return f"{order} {str(answer.ord_status or answer.exec_type).lower()}", 0.0


def cancel_request(venue_calls: RateLimitedVenue, report: ExecutionReport, number: int) -> CancelRequest:
    now_ns = venue_calls.clock.now_ns()
    window_ns = venue_calls.venue.capabilities.validity_window_ns
    order_id = report.exchange_order_id or ""
    longest = venue_calls.venue.capabilities.client_order_id_max_length
    return CancelRequest(
        client_order_id=client_order_id(f"break-glass {now_ns}", order_id, number, max_length=longest),
        symbol_id=report.symbol_id,
        target_client_order_id=report.client_order_id or "",
        target_exchange_order_id=report.exchange_order_id,
        stamp_ns=now_ns,
        valid_until_ns=None if window_ns is None else now_ns + window_ns,
    )


def order_text(report: ExecutionReport, scales: Scales) -> str:
    quantity = scales.quantity(report.symbol_id, report.order_qty)
    price = scales.price(report.symbol_id, report.price)
    name = report.exchange_order_id or report.client_order_id
    terms = f"{report.side} {quantity} {report.symbol_id} at {price}, {report.client_order_id or 'no client order id'}"
    return f"order/{name} ({terms})"

"""A kernel for scripts and notebooks: the same API, but each call blocks for its answer.

Used by whoever has no event loop: `with connect(…) as kernel: kernel.place_order(…)`. The kernel lives on a thread and an
event loop of its own, so it works beside a loop that runs already, as in a notebook, and from several threads at once.
Names, arguments, errors and return values are `EventSourcedKernel`'s; `start` and `stop` are `connect` and `close`.

Ctrl-C in a call leaves that call: what it asked for may be in the log all the same, as with any call that is cut short, and
an `intent_id` makes it safe to ask again. A process that ends without `close` ends like one that was killed: nothing that
was acknowledged is lost, and the next start recovers.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self, TypeVar

from kernel import EventSourcedKernel, events
from kernel.api import EventCallback
from kernel.clock import Clock, IdFactory
from kernel.controller import WaitFor
from kernel.errors import KernelError, NotReadyError, Violation
from kernel.lease import Lease
from kernel.limit_gate import Wanted
from kernel.log import EventLog
from kernel.metrics import Metrics
from kernel.models import (
    AccountState,
    AssetMetadata,
    AttemptOutcome,
    OrderIntent,
    OrderState,
    Position,
    UnsolicitedCancelPolicy,
)
from kernel.order_spec import OcoMode, StandardOrder, StandardOrderGroup, SymbolMetadata
from kernel.settings import KernelSettings
from kernel.venues.base import Venue
from replay.recovery import open_kernel

Answer = TypeVar("Answer")
Method = TypeVar("Method", bound=Callable[..., Any])
CLOSED = "this kernel is closed: connect again"


def connect(
    log: EventLog | str,
    *,
    exchange_id: str | None = None,
    venue: Venue | None = None,
    lease: Lease | None = None,
    clock: Clock | None = None,
    ids: IdFactory | None = None,
    settings: KernelSettings | None = None,
    actor: str = "strategy:default",
    metrics: Metrics | None = None,
) -> BlockingKernel:
    """A kernel over a log, folded and started, on a thread of its own: see `open_kernel` for what is given and raised.

    With a venue it campaigns for the lead and acts, until `close`; without one it takes commands and answers queries beside
    the kernel that leads. It does not wait until a kernel acts: `kernel.wait_ready()`.
    """
    return BlockingKernel(
        open_kernel(
            log,
            exchange_id=exchange_id,
            venue=venue,
            lease=lease,
            clock=clock,
            ids=ids,
            settings=settings,
            actor=actor,
            metrics=metrics,
        )
    )


class LoopThread:
    """A kernel on a thread and an event loop of its own; what is asked of it from other threads."""

    def __init__(self, opening: AbstractAsyncContextManager[EventSourcedKernel]) -> None:
        """Enter the context on the thread. Returns once it is entered; raises what that raises."""
        self._opening = opening
        self._opened: concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, EventSourcedKernel]]
        self._opened = concurrent.futures.Future()
        self._leaving = asyncio.Event()
        self._lock = threading.Lock()
        """Held while a question is handed over, so that none is after the end."""
        self._closed = False
        self._problem: BaseException | None = None
        """What went wrong on the way out."""
        # A daemon: a script that forgets to close it must be able to end.
        self._thread = threading.Thread(target=self._run, name="kernel-loop", daemon=True)
        try:
            self._thread.start()
            self._loop, self.kernel = self._opened.result()
        except BaseException:
            self._opened.add_done_callback(self._abandon)
            raise

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as problem:
            if self._opened.done():
                self._problem = problem
            else:
                self._opened.set_exception(problem)

    async def _live(self) -> None:
        async with self._opening as kernel:
            self._opened.set_result((asyncio.get_running_loop(), kernel))
            await self._leaving.wait()

    def _abandon(self, opened: concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, EventSourcedKernel]]) -> None:
        """Nobody waited for it to open: opened after all, it closes at once."""
        if opened.exception() is None:
            loop, _ = opened.result()
            loop.call_soon_threadsafe(self._leaving.set)

    @property
    def closed(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._closed

    def ask(self, question: Callable[[EventSourcedKernel], Coroutine[Any, Any, Answer]]) -> Answer:
        """The answer to a question, once there is one. Raises `NotReadyError` when it is closed before or meanwhile."""
        self._check_thread()
        with self._lock:
            if self._closed:
                raise NotReadyError(CLOSED)
            future = asyncio.run_coroutine_threadsafe(question(self.kernel), self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            text = "the kernel was closed during the call: what it asked for may be in the log"
            raise NotReadyError(text) from None
        finally:
            future.cancel()  # Ctrl-C: nobody waits for the answer any more

    def close(self) -> None:
        """Leave the context, and wait until it is left. Idempotent. Raises what leaving raises."""
        self._check_thread()
        with self._lock:
            if not self._closed:
                self._closed = True
                self._loop.call_soon_threadsafe(self._leaving.set)
        self._thread.join()
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem

    def _check_thread(self) -> None:
        """Whoever waits for a loop on its own thread waits for ever."""
        if threading.current_thread() is self._thread:
            raise KernelError("a blocking call on the kernel's own thread would wait for ever: use a plain function")


class BlockingEvents(Iterator[events.BaseEvent]):
    """Events as they come. Ends when the kernel is closed, or when waiting for the next one was interrupted."""

    def __init__(self, thread: LoopThread, stream: AsyncIterator[events.BaseEvent]) -> None:
        self._thread = thread
        self._stream = stream

    def __next__(self) -> events.BaseEvent:
        try:
            found = self._thread.ask(lambda kernel: self._following())
        except NotReadyError:
            if not self._thread.closed:
                raise
            found = None
        if found is None:
            raise StopIteration
        return found

    async def _following(self) -> events.BaseEvent | None:
        return await anext(self._stream, None)


def like(original: Callable[..., Any]) -> Callable[[Method], Method]:
    """The same in words: a method has the docstring of the one that it calls."""

    def documented(method: Method) -> Method:
        method.__doc__ = inspect.getdoc(original)
        return method

    return documented


class BlockingKernel:
    """`EventSourcedKernel` for callers without an event loop. Made by `connect`; may be shared by threads.

    Callbacks of `subscribe_events` that are plain functions may call it too; an `async def` runs on the kernel's own loop
    and may not.
    """

    def __init__(self, opening: AbstractAsyncContextManager[EventSourcedKernel]) -> None:
        """Open it: see `connect`."""
        self._thread = LoopThread(opening)
        self.exchange_id = self._thread.kernel.exchange_id

    def close(self) -> None:
        """Stop the kernel in order; cancels no order. Idempotent.

        Calls that wait in other threads end with `NotReadyError`, as does every call from then on.
        """
        self._thread.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _now(self, question: Callable[[EventSourcedKernel], Answer]) -> Answer:
        """What needs no waiting, asked on the kernel's thread: nothing changes meanwhile."""

        async def asked(kernel: EventSourcedKernel) -> Answer:
            return question(kernel)

        return self._thread.ask(asked)

    # ---------------------------------------------------------------------------------------------------- commands
    @like(EventSourcedKernel.place_order)
    def place_order(
        self,
        order: StandardOrder,
        metadata: dict[str, Any] | None = None,
        *,
        intent_id: str | None = None,
        owner: str = "",
        on_unsolicited_cancel: UnsolicitedCancelPolicy = UnsolicitedCancelPolicy.STOP,
        wait: WaitFor = "ack",
        ack_timeout_s: float | None = None,
    ) -> str:
        return self._thread.ask(
            lambda kernel: kernel.place_order(
                order,
                metadata,
                intent_id=intent_id,
                owner=owner,
                on_unsolicited_cancel=on_unsolicited_cancel,
                wait=wait,
                ack_timeout_s=ack_timeout_s,
            )
        )

    @like(EventSourcedKernel.place_order_group)
    def place_order_group(
        self,
        group: StandardOrderGroup,
        metadata: dict[str, Any] | None = None,
        *,
        group_id: str | None = None,
        intent_ids: Sequence[str] | None = None,
        owner: str = "",
        on_unsolicited_cancel: UnsolicitedCancelPolicy = UnsolicitedCancelPolicy.STOP,
        wait: WaitFor = "ack",
        ack_timeout_s: float | None = None,
    ) -> list[str]:
        return self._thread.ask(
            lambda kernel: kernel.place_order_group(
                group,
                metadata,
                group_id=group_id,
                intent_ids=intent_ids,
                owner=owner,
                on_unsolicited_cancel=on_unsolicited_cancel,
                wait=wait,
                ack_timeout_s=ack_timeout_s,
            )
        )

    @like(EventSourcedKernel.modify_order)
    def modify_order(
        self,
        intent_id: str,
        new_order: StandardOrder,
        *,
        expected_generation: int | None = None,
        wait: WaitFor = "ack",
        ack_timeout_s: float | None = None,
    ) -> None:
        self._thread.ask(
            lambda kernel: kernel.modify_order(
                intent_id, new_order, expected_generation=expected_generation, wait=wait, ack_timeout_s=ack_timeout_s
            )
        )

    @like(EventSourcedKernel.cancel_order)
    def cancel_order(self, intent_id: str, *, wait: WaitFor = "ack", ack_timeout_s: float | None = None) -> None:
        self._thread.ask(lambda kernel: kernel.cancel_order(intent_id, wait=wait, ack_timeout_s=ack_timeout_s))

    @like(EventSourcedKernel.cancel_all_orders)
    def cancel_all_orders(self, symbol_id: str | None = None) -> int:
        return self._thread.ask(lambda kernel: kernel.cancel_all_orders(symbol_id))

    @like(EventSourcedKernel.pause)
    def pause(self, intent_id: str | None = None, *, reason: str = "", actor: str | None = None) -> bool:
        return self._thread.ask(lambda kernel: kernel.pause(intent_id, reason=reason, actor=actor))

    @like(EventSourcedKernel.halt)
    def halt(self, symbol_id: str | None = None, *, reason: str = "", actor: str | None = None) -> int:
        return self._thread.ask(lambda kernel: kernel.halt(symbol_id, reason=reason, actor=actor))

    @like(EventSourcedKernel.resume)
    def resume(self, intent_id: str | None = None, *, symbol_id: str | None = None, actor: str | None = None) -> bool:
        return self._thread.ask(lambda kernel: kernel.resume(intent_id, symbol_id=symbol_id, actor=actor))

    @like(EventSourcedKernel.resolve_attempt)
    def resolve_attempt(
        self,
        intent_id: str,
        outcome: AttemptOutcome,
        *,
        evidence: str,
        attempt_position: int | None = None,
        actor: str | None = None,
    ) -> None:
        self._thread.ask(
            lambda kernel: kernel.resolve_attempt(
                intent_id, outcome, evidence=evidence, attempt_position=attempt_position, actor=actor
            )
        )

    @like(EventSourcedKernel.resolve_finding)
    def resolve_finding(self, finding_id: str, *, evidence: str, actor: str | None = None) -> None:
        self._thread.ask(lambda kernel: kernel.resolve_finding(finding_id, evidence=evidence, actor=actor))

    @like(EventSourcedKernel.heartbeat)
    def heartbeat(self, owner: str, ttl_s: float) -> bool:
        return self._thread.ask(lambda kernel: kernel.heartbeat(owner, ttl_s))

    @like(EventSourcedKernel.disarm_heartbeat)
    def disarm_heartbeat(self, owner: str, *, reason: str = "") -> bool:
        return self._thread.ask(lambda kernel: kernel.disarm_heartbeat(owner, reason=reason))

    @like(EventSourcedKernel.limits_exceeded)
    def limits_exceeded(
        self, orders: Sequence[Wanted], groups: Sequence[tuple[OcoMode, Sequence[Wanted]]] = ()
    ) -> list[tuple[str, Violation]]:
        return self._now(lambda kernel: kernel.limits_exceeded(orders, groups))

    # ---------------------------------------------------------------------------------------------------- queries
    @like(EventSourcedKernel.get_order_intent)
    def get_order_intent(self, intent_id: str) -> OrderIntent:
        return self._thread.ask(lambda kernel: kernel.get_order_intent(intent_id))

    @like(EventSourcedKernel.get_order_state)
    def get_order_state(self, intent_id: str) -> OrderState:
        return self._thread.ask(lambda kernel: kernel.get_order_state(intent_id))

    @like(EventSourcedKernel.get_all_intents)
    def get_all_intents(self, symbol_id: str | None = None) -> list[OrderIntent]:
        return self._thread.ask(lambda kernel: kernel.get_all_intents(symbol_id))

    @like(EventSourcedKernel.get_all_orders)
    def get_all_orders(self, symbol_id: str | None = None) -> list[OrderState]:
        return self._thread.ask(lambda kernel: kernel.get_all_orders(symbol_id))

    @like(EventSourcedKernel.get_positions)
    def get_positions(self, symbol_id: str | None = None) -> list[Position]:
        return self._thread.ask(lambda kernel: kernel.get_positions(symbol_id))

    @like(EventSourcedKernel.get_account_state)
    def get_account_state(self) -> AccountState:
        return self._thread.ask(lambda kernel: kernel.get_account_state())

    @like(EventSourcedKernel.get_symbol_metadata)
    def get_symbol_metadata(self, symbol_id: str) -> SymbolMetadata:
        return self._thread.ask(lambda kernel: kernel.get_symbol_metadata(symbol_id))

    @like(EventSourcedKernel.get_asset_metadata)
    def get_asset_metadata(self, asset_id: str) -> AssetMetadata:
        return self._thread.ask(lambda kernel: kernel.get_asset_metadata(asset_id))

    @like(EventSourcedKernel.list_symbols)
    def list_symbols(self) -> list[str]:
        return self._thread.ask(lambda kernel: kernel.list_symbols())

    @like(EventSourcedKernel.get_fills)
    def get_fills(
        self, intent_id: str | None = None, symbol_id: str | None = None, after: int | None = None
    ) -> list[events.OrderFilled]:
        return self._thread.ask(lambda kernel: kernel.get_fills(intent_id, symbol_id, after))

    @like(EventSourcedKernel.wait_until)
    def wait_until(self, intent_id: str, holds: Any, *, timeout_s: float) -> None:
        self._thread.ask(lambda kernel: kernel.wait_until(intent_id, holds, timeout_s=timeout_s))

    # ---------------------------------------------------------------------------------------------------- events
    @like(EventSourcedKernel.subscribe_events)
    def subscribe_events(
        self, callback: EventCallback, event_filter: dict[str, Any] | None = None, *, after: int | None = None
    ) -> str:
        return self._now(lambda kernel: kernel.subscribe_events(callback, event_filter, after=after))

    @like(EventSourcedKernel.unsubscribe_events)
    def unsubscribe_events(self, subscription_id: str) -> None:
        self._now(lambda kernel: kernel.unsubscribe_events(subscription_id))

    def events(
        self, event_filter: dict[str, Any] | None = None, *, after: int | None = None
    ) -> Iterator[events.BaseEvent]:
        """The same as an iterator, which blocks for the next event and ends when the kernel is closed."""
        return BlockingEvents(self._thread, self._now(lambda kernel: kernel.events(event_filter, after=after)))

    # ---------------------------------------------------------------------------------------------------- life
    @like(EventSourcedKernel.wait_ready)
    def wait_ready(self, timeout_s: float = 30.0) -> None:
        self._thread.ask(lambda kernel: kernel.wait_ready(timeout_s))

    @like(EventSourcedKernel.health_check)
    def health_check(self) -> dict[str, Any]:
        return self._thread.ask(lambda kernel: kernel.health_check())

    @like(EventSourcedKernel.force_reconciliation)
    def force_reconciliation(self, intent_id: str | None = None) -> None:
        self._thread.ask(lambda kernel: kernel.force_reconciliation(intent_id))

    @like(EventSourcedKernel.get_reconciliation_metrics)
    def get_reconciliation_metrics(self) -> dict[str, Any]:
        return self._now(lambda kernel: kernel.get_reconciliation_metrics())

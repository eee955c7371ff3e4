"""A kernel for scripts and notebooks: the API of `EventSourcedKernel`, with calls that block.

`with connect(…) as kernel: kernel.place_order(…)`. The kernel runs on a thread and event loop of its own, so it works
beside a running loop and from several threads. Names, arguments, errors and results are `EventSourcedKernel`'s.

Ctrl-C ends a call, not its effect: the command may be in the log, and an `intent_id` makes it safe to repeat. A process
that ends without `close` ends like a killed one: the next start recovers.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from kernel import EventSourcedKernel, events
from kernel.errors import KernelError, NotReadyError
from replay.host.bootstrap import open_kernel

Answer = TypeVar("Answer")
Params = ParamSpec("Params")
CLOSED = "the kernel is closed: call connect again"


class LoopThread:
    """A kernel on a thread and event loop of its own, callable from other threads."""

    def __init__(self, opening: AbstractAsyncContextManager[EventSourcedKernel]) -> None:
        """Enter the context on the thread; returns once it is entered, or raises what that raises."""
        self._opening = opening
        self._opened: concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, EventSourcedKernel]]
        self._opened = concurrent.futures.Future()
        self._leaving = asyncio.Event()
        self._lock = threading.Lock()
        """Held while a call is submitted, so that none follows the close."""
        self._closed = False
        self._problem: BaseException | None = None
        """The exception raised on leaving the context."""
        # A daemon thread: a script that does not close the kernel can end.
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
        """The constructor was interrupted: close the kernel as soon as it is open."""
        if opened.exception() is None:
            loop, _ = opened.result()
            loop.call_soon_threadsafe(self._leaving.set)

    @property
    def closed(self) -> bool:
        return self._closed

    def ask(self, call: Callable[[EventSourcedKernel], Coroutine[Any, Any, Answer]]) -> Answer:
        """Run a coroutine on the kernel's thread. Raises `NotReadyError` if the kernel is closed before it ends."""
        self._check_thread()
        with self._lock:
            if self._closed:
                raise NotReadyError(CLOSED)
            future = asyncio.run_coroutine_threadsafe(call(self.kernel), self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            text = "the kernel was closed during the call: its command may be in the log"
            raise NotReadyError(text) from None
        finally:
            future.cancel()  # after Ctrl-C

    def close(self) -> None:
        """Leave the context and wait for the thread. Idempotent. Raises what leaving raises."""
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
        if threading.current_thread() is self._thread:
            raise KernelError("a blocking call on the kernel's own thread would never return: use a plain callback")


class BlockingEvents(Iterator[events.BaseEvent]):
    """Events as they are appended; ends when the kernel is closed, or when waiting was interrupted."""

    def __init__(self, thread: LoopThread, stream: AsyncIterator[events.BaseEvent]) -> None:
        self._thread = thread
        self._stream = stream

    def __next__(self) -> events.BaseEvent:
        try:
            found = self._thread.ask(self._next)
        except NotReadyError:
            if not self._thread.closed:
                raise
            found = None
        if found is None:
            raise StopIteration
        return found

    async def _next(self, kernel: EventSourcedKernel) -> events.BaseEvent | None:
        return await anext(self._stream, None)


def blocking_method(
    method: Callable[Concatenate[EventSourcedKernel, Params], Coroutine[Any, Any, Answer]],
) -> Callable[Concatenate[BlockingKernel, Params], Answer]:
    """Wrap a coroutine method of the kernel, with its arguments, types and docstring, to block for the result."""

    @functools.wraps(method)
    def blocking(self: BlockingKernel, /, *args: Params.args, **kwargs: Params.kwargs) -> Answer:
        return self._thread.ask(lambda kernel: method(kernel, *args, **kwargs))

    blocking.__doc__ = inspect.getdoc(method)  # inherited from the interface, if the method has none
    return blocking


def thread_method(
    method: Callable[Concatenate[EventSourcedKernel, Params], Answer],
) -> Callable[Concatenate[BlockingKernel, Params], Answer]:
    """Wrap a plain method of the kernel to run on the kernel's thread, so that nothing changes meanwhile."""

    @functools.wraps(method)
    def blocking(self: BlockingKernel, /, *args: Params.args, **kwargs: Params.kwargs) -> Answer:
        async def call(kernel: EventSourcedKernel) -> Answer:
            return method(kernel, *args, **kwargs)

        return self._thread.ask(call)

    blocking.__doc__ = inspect.getdoc(method)
    return blocking


class BlockingKernel:
    """`EventSourcedKernel` for callers without an event loop; made by `connect`, shareable by threads.

    Plain callbacks of `subscribe_events` may call it too; an `async def` runs on the kernel's own loop and may not.
    """

    def __init__(self, opening: AbstractAsyncContextManager[EventSourcedKernel]) -> None:
        self._thread = LoopThread(opening)
        self.exchange_id = self._thread.kernel.exchange_id

    def close(self) -> None:
        """Stop the kernel in order; cancels no order. Idempotent. Pending calls of other threads raise `NotReadyError`."""
        self._thread.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    place_order = blocking_method(EventSourcedKernel.place_order)
    place_order_group = blocking_method(EventSourcedKernel.place_order_group)
    modify_order = blocking_method(EventSourcedKernel.modify_order)
    cancel_order = blocking_method(EventSourcedKernel.cancel_order)
    cancel_orders = blocking_method(EventSourcedKernel.cancel_orders)
    cancel_all_orders = blocking_method(EventSourcedKernel.cancel_all_orders)
    pause = blocking_method(EventSourcedKernel.pause)
    halt = blocking_method(EventSourcedKernel.halt)
    resume = blocking_method(EventSourcedKernel.resume)
    resolve_attempt = blocking_method(EventSourcedKernel.resolve_attempt)
    resolve_finding = blocking_method(EventSourcedKernel.resolve_finding)
    heartbeat = blocking_method(EventSourcedKernel.heartbeat)
    disarm_heartbeat = blocking_method(EventSourcedKernel.disarm_heartbeat)
    limits_exceeded = thread_method(EventSourcedKernel.limits_exceeded)

    get_order_intent = blocking_method(EventSourcedKernel.get_order_intent)
    get_order_state = blocking_method(EventSourcedKernel.get_order_state)
    get_all_intents = blocking_method(EventSourcedKernel.get_all_intents)
    get_all_orders = blocking_method(EventSourcedKernel.get_all_orders)
    get_positions = blocking_method(EventSourcedKernel.get_positions)
    get_account_state = blocking_method(EventSourcedKernel.get_account_state)
    get_symbol_metadata = blocking_method(EventSourcedKernel.get_symbol_metadata)
    get_asset_metadata = blocking_method(EventSourcedKernel.get_asset_metadata)
    list_symbols = blocking_method(EventSourcedKernel.list_symbols)
    get_fills = blocking_method(EventSourcedKernel.get_fills)
    wait_until = blocking_method(EventSourcedKernel.wait_until)

    subscribe_events = thread_method(EventSourcedKernel.subscribe_events)
    unsubscribe_events = thread_method(EventSourcedKernel.unsubscribe_events)
    _stream = thread_method(EventSourcedKernel.events)

    def events(
        self, event_filter: dict[str, Any] | None = None, *, after: int | None = None
    ) -> Iterator[events.BaseEvent]:
        """Yield events as `EventSourcedKernel.events` does, blocking for the next; ends when the kernel is closed."""
        return BlockingEvents(self._thread, self._stream(event_filter, after=after))

    wait_ready = blocking_method(EventSourcedKernel.wait_ready)
    health_check = blocking_method(EventSourcedKernel.health_check)
    force_reconciliation = blocking_method(EventSourcedKernel.force_reconciliation)
    get_reconciliation_metrics = thread_method(EventSourcedKernel.get_reconciliation_metrics)


def blocking_opener(
    opening: Callable[Params, AbstractAsyncContextManager[EventSourcedKernel]],
) -> Callable[Params, BlockingKernel]:
    """Wrap `open_kernel`, with its arguments and types, to return a blocking kernel."""

    @functools.wraps(opening, assigned=("__module__",))
    def connect(*args: Params.args, **kwargs: Params.kwargs) -> BlockingKernel:
        """Open a kernel over a log, folded and started, on its own thread; the arguments are those of `open_kernel`.

        With a venue it campaigns for the lease and acts until `close`; without one it takes commands and answers queries
        beside the leader. To wait until a kernel acts, call `wait_ready`.

        Raises:
            KernelError: As `open_kernel`.
        """
        return BlockingKernel(opening(*args, **kwargs))

    return connect


connect = blocking_opener(open_kernel)

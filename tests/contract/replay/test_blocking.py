"""The blocking client on a real SQLite log with a paper exchange."""

from __future__ import annotations

import asyncio
import inspect
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kernel import EventSourcedKernel, events
from kernel.errors import (
    AlreadyExistsError,
    KernelError,
    NotFoundError,
    NotReadyError,
    ValidationError,
    WaitTimeoutError,
)
from kernel.models import Desired, OrdStatus
from kernel.order_spec import OrderType, Side, StandardOrder
from kernel.venues import PaperVenue
from replay import connect, open_kernel
from replay.host.blocking import BlockingKernel
from tests.cli.world import LINE_TIMEOUT_S, PROJECT, clean_environment

LAST = 6_180_000


def bid(quantity: int = 150_000, price: int = LAST - 1_000_000) -> StandardOrder:
    """A buy order behind the market."""
    return StandardOrder(symbol_id="BTCUSDT", side=Side.BUY, order_type=OrderType.LIMIT, quantity=quantity, price=price)


def market() -> StandardOrder:
    return StandardOrder(symbol_id="BTCUSDT", side=Side.BUY, order_type=OrderType.MARKET, quantity=100_000)


def leading(path: Path) -> BlockingKernel:
    """A kernel that acts, with an exchange that keeps its state."""
    venue = PaperVenue(seed=1, speed="max", journal=str(path / "exchange.journal"))
    kernel = connect(f"sqlite:///{path / 'kernel.db'}", exchange_id="paper", venue=venue)
    kernel.wait_ready(120)
    return kernel


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[BlockingKernel]:
    """A kernel that acts."""
    with leading(tmp_path) as kernel:
        yield kernel


PUBLIC = sorted(name for name, _ in inspect.getmembers(EventSourcedKernel, callable) if not name.startswith("_"))


@pytest.mark.parametrize("name", [name for name in PUBLIC if name not in ("start", "stop")])
def test_it_has_every_name_with_the_same_arguments(name: str) -> None:
    """Every public method of the kernel exists with the same parameters, result and docstring."""
    ours, theirs = getattr(BlockingKernel, name), getattr(EventSourcedKernel, name)
    signature = inspect.signature(theirs)
    answer = str(signature.return_annotation).replace("AsyncIterator", "Iterator")

    assert inspect.signature(ours) == signature.replace(return_annotation=answer)
    if name != "events":
        assert inspect.getdoc(ours) == inspect.getdoc(theirs)


def test_a_script_from_the_first_order_to_the_last(kernel: BlockingKernel) -> None:
    """Calls return once done: an order is placed, modified and canceled, another one filled and counted."""
    symbol = kernel.get_symbol_metadata("BTCUSDT")
    assert (symbol.base_asset, kernel.exchange_id) == ("BTC", "paper")
    assert "ETHUSDT" in kernel.list_symbols()
    name = kernel.place_order(bid(), {"level": 1}, intent_id="mine", owner="mm-1")
    assert kernel.get_order_state(name).status.ord_status is OrdStatus.NEW
    kernel.modify_order(name, bid(140_000), expected_generation=1)
    assert kernel.get_order_state(name).status.order.quantity == 140_000
    kernel.cancel_order(name)
    assert kernel.get_order_intent(name).desired is Desired.CANCELED
    kernel.place_order(market(), intent_id="taker")
    kernel.wait_until("taker", lambda record: record.cum_qty == 100_000, timeout_s=20)
    assert sum(fill.last_qty for fill in kernel.get_fills("taker")) == 100_000
    assert [item.quantity for item in kernel.get_positions()] == [100_000]
    assert [len(found) for found in (kernel.get_all_intents(), kernel.get_all_orders("ETHUSDT"))] == [2, 0]
    assert kernel.get_asset_metadata("BTC").decimals == 8
    assert kernel.get_account_state().balances["BTC"].total > 0


def test_what_is_about_the_kernel_itself(kernel: BlockingKernel) -> None:
    """Pauses, heartbeats, limits, health and cancel-all answer as on the kernel."""
    kernel.place_order(bid(), intent_id="mine", owner="mm-1")
    assert [kernel.pause("mine", reason="look"), kernel.pause("mine"), kernel.resume("mine")] == [True, False, True]
    assert [kernel.heartbeat("mm-1", 60), kernel.heartbeat("mm-1", 60)] == [True, False]
    assert [kernel.disarm_heartbeat("mm-1"), kernel.disarm_heartbeat("mm-1")] == [True, False]
    assert kernel.limits_exceeded([("x", bid(), kernel.get_symbol_metadata("BTCUSDT"))]) == []
    kernel.force_reconciliation()
    assert kernel.health_check()["ready"]
    assert kernel.get_reconciliation_metrics()["running"]
    assert kernel.cancel_all_orders("BTCUSDT") == 1


def test_errors_are_the_kernels_own(kernel: BlockingKernel) -> None:
    """The kernel's errors reach the caller unchanged."""
    kernel.place_order(bid(), intent_id="mine")
    with pytest.raises(AlreadyExistsError, match="mine"):
        kernel.place_order(bid(140_000), intent_id="mine")
    with pytest.raises(ValidationError, match="is below the minimum"):
        kernel.place_order(bid(1))
    with pytest.raises(NotFoundError, match="nobody"):
        kernel.cancel_order("nobody")
    with pytest.raises(ValidationError, match="colour"):
        next(iter(kernel.events({"colour": "red"})))
    with pytest.raises(WaitTimeoutError, match="does not hold after 0 s"):
        kernel.wait_until("mine", lambda record: False, timeout_s=0)


def test_what_cannot_be_opened_is_told_at_once(tmp_path: Path) -> None:
    """`connect` raises the error of opening and leaves no thread."""
    before = threading.active_count()
    with pytest.raises(ValidationError, match="exchange_id"):
        connect(f"sqlite:///{tmp_path / 'kernel.db'}")

    assert threading.active_count() == before


def test_events_are_waited_for(kernel: BlockingKernel) -> None:
    """Iterating blocks for the next event of any thread, and ends when the kernel is closed."""
    seen: queue.Queue[str | None] = queue.Queue()
    stream = kernel.events({"event_type": "IntentCreated"}, after=0)

    def follow() -> None:
        for event in stream:
            assert isinstance(event, events.IntentCreated)
            seen.put(event.intent.intent_id)
        seen.put(None)

    follower = threading.Thread(target=follow)
    follower.start()
    for name in ("one", "two"):
        kernel.place_order(bid(), intent_id=name, wait="recorded")
        assert seen.get(timeout=LINE_TIMEOUT_S) == name
    kernel.close()
    assert seen.get(timeout=LINE_TIMEOUT_S) is None
    follower.join()
    assert list(stream) == []


def test_callbacks_may_call_it_too(kernel: BlockingKernel) -> None:
    """A plain callback may call the kernel; an `async def`, which runs on the loop, gets an error."""
    found: queue.Queue[Any] = queue.Queue()

    def plain(event: events.BaseEvent) -> None:
        found.put(kernel.get_order_intent("mine").intent_id)

    async def on_the_loop(event: events.BaseEvent) -> None:
        try:
            kernel.get_order_intent("mine")
        except KernelError as problem:
            found.put(problem)

    for callback in (plain, on_the_loop):
        name = kernel.subscribe_events(callback, {"event_type": "IntentCreated"}, after=0)
        if callback is plain:
            kernel.place_order(bid(), intent_id="mine")
            assert found.get(timeout=LINE_TIMEOUT_S) == "mine"
        else:
            assert "never return" in str(found.get(timeout=LINE_TIMEOUT_S))
        kernel.unsubscribe_events(name)
    with pytest.raises(NotFoundError, match="subscription"):
        kernel.unsubscribe_events("subscription-1")


def test_several_threads_at_once(kernel: BlockingKernel) -> None:
    """Eight threads place and cancel concurrently, each with its own results."""

    def trade(number: int) -> list[str]:
        names = [kernel.place_order(bid(), intent_id=f"t{number}-{count}") for count in range(4)]
        for name in names:
            kernel.cancel_order(name)
        return names

    with ThreadPoolExecutor(8) as pool:
        names = [name for found in pool.map(trade, range(8)) for name in found]

    assert len(names) == len(kernel.get_all_intents()) == 32
    assert {order.status.ord_status for order in kernel.get_all_orders()} == {OrdStatus.CANCELED}


def test_after_close_there_is_nothing(tmp_path: Path) -> None:
    """Closing is idempotent, later calls are refused, and the log keeps its content."""
    with leading(tmp_path) as kernel:
        kernel.place_order(bid(), intent_id="kept")
        kernel.close()
    kernel.close()
    for call in (kernel.list_symbols, kernel.events, lambda: kernel.place_order(bid())):
        with pytest.raises(NotReadyError, match="closed: call connect again"):
            call()
    with leading(tmp_path) as again:
        again.cancel_order("kept")
        assert again.get_order_state("kept").status.ord_status is OrdStatus.CANCELED


def test_a_call_that_waits_ends_with_the_kernel(tmp_path: Path) -> None:
    """Closing from another thread ends a waiting call with an error."""
    kernel = connect(f"sqlite:///{tmp_path / 'kernel.db'}", exchange_id="paper")
    with ThreadPoolExecutor(1) as pool:
        stream = kernel.events(after=0)
        next(stream)  # LogCreated
        waiting = pool.submit(kernel.wait_until, "nobody", lambda record: False, timeout_s=60)
        following = threading.Thread(target=list, args=(stream,))
        following.start()
        kernel.close()
        with pytest.raises(NotReadyError, match="closed"):
            waiting.result(timeout=LINE_TIMEOUT_S)
        following.join(timeout=LINE_TIMEOUT_S)
        assert not following.is_alive()


async def test_beside_a_loop_that_runs(tmp_path: Path) -> None:
    """It works beside a running event loop, as in a notebook."""
    loop = asyncio.get_running_loop()
    with leading(tmp_path) as kernel:
        assert kernel.place_order(bid(), intent_id="cell-1") == "cell-1"

    assert asyncio.get_running_loop() is loop


def test_interrupted_while_it_opens_it_closes_by_itself() -> None:
    """Ctrl-C while opening is raised at once, and the kernel is closed once it is open."""
    interrupted, left = threading.Event(), threading.Event()

    @asynccontextmanager
    async def opening() -> AsyncIterator[EventSourcedKernel]:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        await asyncio.to_thread(interrupted.wait, LINE_TIMEOUT_S)
        async with open_kernel("memory://", exchange_id="paper") as kernel:
            yield kernel
        left.set()

    with pytest.raises(KeyboardInterrupt):
        BlockingKernel(opening())
    interrupted.set()

    assert left.wait(LINE_TIMEOUT_S)


SCRIPT = """
from replay import connect, open_kernel
from kernel.venues import PaperVenue
kernel = connect("sqlite:///kernel.db", exchange_id="paper", venue=PaperVenue(seed=1))
kernel.wait_ready(20)
"""
WAITS = """
with kernel:
    try:
        print("waits", flush=True)
        for event in kernel.events({"event_type": "IntentDeleted"}):
            print("an event", flush=True)
    finally:
        print("left", flush=True)
"""


def script(text: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", text],
        cwd=folder,
        env=clean_environment(PYTHONPATH=str(PROJECT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ctrl_c_leaves_a_call_cleanly(tmp_path: Path) -> None:
    """Ctrl-C is raised in the waiting call, and the kernel stops in order without further output."""
    with script(SCRIPT + WAITS, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LINE_TIMEOUT_S)
    with connect(f"sqlite:///{tmp_path / 'kernel.db'}", exchange_id="paper") as kernel:
        stopped = next(kernel.events({"event_type": "KernelStopped"}, after=0))

    assert process.returncode == -signal.SIGINT
    assert out == "left\n"
    assert err.splitlines()[-1] == "KeyboardInterrupt"
    assert err.count("Traceback") == 1
    assert stopped.topic == "KernelStopped"


def test_a_script_that_forgets_to_close_ends(tmp_path: Path) -> None:
    """A script that does not close the kernel ends at once, and the log has what was acknowledged."""
    text = SCRIPT + "kernel.pause(reason='forgotten')\n"
    with script(text, tmp_path) as process:
        _, err = process.communicate(timeout=LINE_TIMEOUT_S)

    assert (process.returncode, err) == (0, "")
    with connect(f"sqlite:///{tmp_path / 'kernel.db'}", exchange_id="paper") as kernel:
        assert "forgotten" in str(kernel.health_check())

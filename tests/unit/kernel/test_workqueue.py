"""The queue of keys: deduplicated, one worker per key, delays, priorities that age, drain."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from kernel.actions import Priority
from kernel.clock import NS_PER_S, LoopClock
from kernel.metrics import Metrics
from kernel.workqueue import HEAD_START_NS, WorkQueue
from tests.paper_world import HandClock

pytestmark = pytest.mark.looptime


@pytest.fixture
async def queue() -> WorkQueue:
    """A queue on the loop's own time."""
    return WorkQueue(LoopClock(), metrics=Metrics())


async def take(queue: WorkQueue) -> str:
    """The next key, at once."""
    return await asyncio.wait_for(queue.get(), 0.001)


async def is_empty(queue: WorkQueue) -> bool:
    """Whether nothing is handed out now."""
    try:
        await take(queue)
    except TimeoutError:
        return True
    return False


async def test_a_key_is_queued_once(queue: WorkQueue) -> None:
    """A key added three times is handed out once."""
    for _ in range(3):
        queue.add("a")
    assert len(queue) == 1
    assert await take(queue) == "a"
    queue.done("a")
    assert await is_empty(queue)


async def test_keys_of_one_priority_come_in_order(queue: WorkQueue) -> None:
    """First come, first served."""
    for key in "cab":
        queue.add(key)
    assert [await take(queue) for _ in range(3)] == ["c", "a", "b"]


async def test_a_higher_priority_comes_first(queue: WorkQueue) -> None:
    """Cancels go before resolutions, those before submits, and submits before the resync."""
    for priority in Priority:
        queue.add(priority.label, priority)
    taken = [await take(queue) for _ in Priority]
    assert taken == ["CANCEL", "SETTLE", "MODIFY", "SUBMIT", "RESYNC"]


async def test_nothing_starves(queue: WorkQueue) -> None:
    """A resync that has waited longer than a cancel's head start goes before a fresh cancel."""
    queue.add("old", Priority.RESYNC)
    await asyncio.sleep(Priority.CANCEL * HEAD_START_NS / NS_PER_S + 1)
    queue.add("fresh", Priority.CANCEL)
    assert await take(queue) == "old"


async def test_a_key_has_one_worker_at_a_time(queue: WorkQueue) -> None:
    """A key is not handed out again before `done`."""
    queue.add("a")
    await take(queue)
    queue.add("a")
    assert await is_empty(queue)
    queue.done("a")
    assert await take(queue) == "a"


async def test_a_running_key_that_is_added_runs_once_more(queue: WorkQueue) -> None:
    """A key added while it runs is run once more, with its highest priority."""
    queue.add("a")
    await take(queue)
    queue.add("b", Priority.SUBMIT)
    queue.add("a", Priority.RESYNC)
    queue.add("a", Priority.CANCEL)
    queue.done("a")
    assert [await take(queue), await take(queue)] == ["a", "b"]
    queue.done("a")
    assert await is_empty(queue)


async def test_a_raised_priority_counts(queue: WorkQueue) -> None:
    """A waiting resync that is added as a cancel moves ahead."""
    queue.add("a", Priority.RESYNC)
    queue.add("b", Priority.SUBMIT)
    queue.add("a", Priority.CANCEL)
    assert [await take(queue), await take(queue)] == ["a", "b"]


async def test_a_delayed_key_becomes_ready_at_its_instant(queue: WorkQueue) -> None:
    """A delayed key is not handed out before its instant."""
    clock = LoopClock()
    due_ns = clock.now_ns() + 5 * NS_PER_S
    queue.add_at("a", due_ns)
    assert queue.pending == 1
    assert await queue.get() == "a"
    assert clock.now_ns() >= due_ns
    assert clock.now_ns() < due_ns + NS_PER_S // 100


async def test_the_earliest_delay_wins(queue: WorkQueue) -> None:
    """Of two delays of a key the earlier one counts."""
    clock = LoopClock()
    now_ns = clock.now_ns()
    queue.add_at("a", now_ns + 9 * NS_PER_S)
    queue.add_at("a", now_ns + 3 * NS_PER_S)
    queue.add_at("a", now_ns + 6 * NS_PER_S)
    assert await queue.get() == "a"
    assert clock.now_ns() < now_ns + 4 * NS_PER_S
    queue.done("a")
    await asyncio.sleep(20)
    assert await is_empty(queue)


async def test_being_ready_ends_a_delay(queue: WorkQueue) -> None:
    """A ready key is not handed out again when its delay ends."""
    queue.add_at("a", LoopClock().now_ns() + 3 * NS_PER_S)
    queue.add("a")
    assert await take(queue) == "a"
    queue.done("a")
    await asyncio.sleep(5)
    assert await is_empty(queue)


async def test_a_delayed_key_keeps_its_priority(queue: WorkQueue) -> None:
    """A delayed cancel goes before the keys that wait already."""
    queue.add("cancel", Priority.CANCEL)
    await take(queue)
    queue.add_at("cancel", LoopClock().now_ns() + 5 * NS_PER_S)
    queue.done("cancel")
    queue.add("submit", Priority.SUBMIT)
    queue.add("resync", Priority.RESYNC)
    await asyncio.sleep(6)
    assert [await take(queue) for _ in range(3)] == ["cancel", "submit", "resync"]


async def test_a_delay_that_ends_during_a_run_waits_for_done(queue: WorkQueue) -> None:
    """A key whose delay ends while it runs is run again after `done`."""
    queue.add("a")
    await take(queue)
    queue.add_at("a", LoopClock().now_ns() + NS_PER_S)
    await asyncio.sleep(2)
    assert await is_empty(queue)
    queue.done("a")
    assert await take(queue) == "a"


async def test_waiting_workers_get_keys_as_they_come(queue: WorkQueue) -> None:
    """Two waiting workers get one key each."""
    workers = [asyncio.create_task(queue.get()) for _ in range(2)]
    await asyncio.sleep(0)
    queue.add("a")
    queue.add("b")
    assert sorted(await asyncio.gather(*workers)) == ["a", "b"]


async def test_a_canceled_wait_loses_no_key(queue: WorkQueue) -> None:
    """A worker canceled as it gets a key returns it to the queue."""
    worker = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    assert queue.pending <= 1
    queue.add("a")
    assert await take(queue) == "a"


async def test_a_parked_lane_hands_out_nothing(queue: WorkQueue) -> None:
    """A submit without rate-limit capacity keeps its place and parks the submit lane; cancels go on."""
    clock = LoopClock()
    for key in ("s1", "s2"):
        queue.add(key, Priority.SUBMIT)
    assert await take(queue) == "s1"
    until_ns = clock.now_ns() + 20 * NS_PER_S
    queue.park("s1", Priority.SUBMIT, until_ns)
    queue.done("s1")
    queue.add("c", Priority.CANCEL)
    assert await take(queue) == "c"
    await asyncio.sleep(10)
    queue.add("s3", Priority.SUBMIT)
    assert await is_empty(queue)
    assert (len(queue), queue.pending) == (3, 4)
    assert [await queue.get() for _ in range(3)] == ["s1", "s2", "s3"]
    assert until_ns <= clock.now_ns() < until_ns + NS_PER_S // 100


async def test_a_parked_key_can_move_to_a_higher_lane(queue: WorkQueue) -> None:
    """A parked submit that is to be canceled moves to the cancel lane, which is not parked."""
    queue.add("a", Priority.SUBMIT)
    await take(queue)
    queue.park("a", Priority.SUBMIT, LoopClock().now_ns() + 60 * NS_PER_S)
    queue.done("a")
    assert await is_empty(queue)
    queue.add("a", Priority.CANCEL)
    assert await take(queue) == "a"


async def test_parked_keys_keep_their_order(queue: WorkQueue) -> None:
    """Keys that go back to a parked lane keep their order, before all later keys."""
    for key in ("a", "b", "c"):
        queue.add(key, Priority.SUBMIT)
    until_ns = LoopClock().now_ns() + NS_PER_S
    for _ in range(3):
        taken = [await take(queue) for _ in range(3)]
        queue.add("b", Priority.RESYNC)
        for key in reversed(taken):
            queue.park(key, Priority.SUBMIT, until_ns)
            queue.done(key)
        await asyncio.sleep(1.1)
        queue.add("d", Priority.SUBMIT)
        assert taken == ["a", "b", "c"]


async def test_released_lanes_are_used_at_once(queue: WorkQueue) -> None:
    """After `release` parked keys are handed out at once."""
    queue.add("a", Priority.CANCEL)
    await take(queue)
    queue.park("a", Priority.CANCEL, LoopClock().now_ns() + 60 * NS_PER_S)
    queue.done("a")
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(1)
    assert not waiting.done()
    queue.release()
    assert await waiting == "a"


async def test_drained_waits_for_the_last_worker(queue: WorkQueue) -> None:
    """After `close` no key is taken or handed out, and `drained` waits for the last worker."""
    queue.add("a")
    await take(queue)
    queue.add("b")
    queue.close()
    queue.add("c")
    drained = asyncio.create_task(queue.drained())
    await asyncio.sleep(1)
    assert not drained.done()
    queue.done("a")
    await drained
    assert queue.pending == 0


class QueueModel(RuleBasedStateMachine):
    """The queue against sets: what is ready, what is worked on, what is to run again, what is delayed."""

    KEYS = st.sampled_from("abcd")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = HandClock()
        self.queue = WorkQueue(self.clock, metrics=Metrics())
        self.ready: set[str] = set()
        self.working: set[str] = set()
        self.again: set[str] = set()

    def teardown(self) -> None:
        self.queue.close()
        self.loop.close()

    @rule(key=KEYS, priority=st.sampled_from(Priority))
    def add(self, key: str, priority: Priority) -> None:
        """A key is wanted."""
        self.queue.add(key, priority)
        (self.again if key in self.working else self.ready).add(key)

    @precondition(lambda self: self.working)
    @rule(data=st.data(), priority=st.sampled_from(Priority))
    def put_back(self, data: st.DataObject, priority: Priority) -> None:
        """A key has to wait for room, which comes before anybody looks again."""
        key = data.draw(st.sampled_from(sorted(self.working)))
        self.loop.run_until_complete(self._hold(key, priority))
        self.again.add(key)

    async def _hold(self, key: str, priority: Priority) -> None:
        self.queue.park(key, priority, self.clock.now_ns())

    @rule()
    def time_passes(self) -> None:
        """The clock moves, so that ranks differ."""
        self.clock.forward(0.7)

    @precondition(lambda self: self.ready)
    @rule()
    def take(self) -> None:
        """A worker gets a key that is ready, and that nobody works on."""
        key = self.loop.run_until_complete(asyncio.wait_for(self.queue.get(), 1))
        assert key in self.ready
        assert key not in self.working
        self.ready.remove(key)
        self.working.add(key)

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """A worker is through; what was added meanwhile is ready."""
        key = data.draw(st.sampled_from(sorted(self.working)))
        self.queue.done(key)
        self.working.remove(key)
        if key in self.again:
            self.again.remove(key)
            self.ready.add(key)

    @invariant()
    def counts_agree(self) -> None:
        """As many keys are ready, and pending, as the sets have."""
        assert len(self.queue) == len(self.ready)
        assert self.queue.pending == len(self.ready) + len(self.working)


@given(
    st.lists(st.tuples(st.sampled_from(Priority), st.integers(0, 3), st.integers(0, 3_000)), min_size=1, max_size=150)
)
def test_no_key_is_overtaken_by_much_younger_ones(adds: list[tuple[Priority, int, int]]) -> None:
    """No key waits for another that came later by more than the head start."""
    clock, loop = HandClock(), asyncio.new_event_loop()
    queue = WorkQueue(clock, metrics=Metrics())
    came_ns: dict[str, tuple[int, Priority]] = {}

    def take_one() -> None:
        key = loop.run_until_complete(queue.get())
        queue.done(key)
        taken_ns, priority = came_ns.pop(key)
        for left_ns, left_as in came_ns.values():
            assert left_ns - left_as * HEAD_START_NS >= taken_ns - priority * HEAD_START_NS

    for number, (priority, takes, pause_ms) in enumerate(adds):
        clock.forward(pause_ms / 1000)
        came_ns[str(number)] = (clock.now_ns(), priority)
        queue.add(str(number), priority)
        for _ in range(min(takes, len(came_ns))):
            take_one()
    while came_ns:
        take_one()
    loop.close()


def test_the_queue_behaves_like_its_model() -> None:
    """Any sequence of adds, takes and dones keeps the queue and the model equal."""
    run_state_machine_as_test(QueueModel, settings=settings(max_examples=40, stateful_step_count=25, deadline=None))

"""Plays a transcript: real kernels on the memory log and virtual time, against a scripted exchange, step by step.

A transcript is a text file of blocks. A block has commands, one per line, then `----`, then their effects; lines that begin
with # are comments. `play` runs the commands and returns the expected text; the test compares, or rewrites.

    Commands of the world:
      venue KEY=VALUE …            properties of the exchange; first of all (see CAPABILITIES)
      settings KEY=VALUE …         settings of the kernels
      start K0 / stop K0 / kill K0 a kernel starts, stops in order, is killed
      takeover K1                  K1 gets the lease and leads; K0 is not told
      lease K0 until 3s            K0 holds the lease to that instant at most
      pause K0 [at submit | after AttemptStarted]   its process stops, at once or at that point
      resume K0
      break K0 before|after OrderFilled   the log fails once at such an append, before or after it is recorded
      place b1 BUY 2 @100 [stop@99] [IOC] [recreate]   /   cancel b1   /   change b1 BUY 3 @100
      time +5s                     let time pass
      resolve b1 dead | #0         an operator says that b1's submit is dead, or that order #0 is its order
      relist K0                    the kernel takes a snapshot of the venue
      show                         show the state of log and venue
      end                          faults stop, time passes, and log and venue must agree
    Commands of the exchange, `venue: …`, are the methods of `TranscriptExchange` and the words of `Script.venue`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any

from msgspec import structs

from kernel.clock import NS_PER_S, LoopClock, SeededIds
from kernel.controller import EventSourcedKernel
from kernel.errors import ConflictError, FencedError, KernelError, LogUnavailableError, Rejected
from kernel.events import BaseEvent, intent_stream
from kernel.lease import FAR_FUTURE_NS, Lease
from kernel.lifecycle.decide import UpdateIntent, decide
from kernel.lifecycle.record import order_state
from kernel.log import LogSettings, open_log
from kernel.log.backends.memory import MemoryLog, MemoryRecorder
from kernel.log.base import Append, Appended, StoredRow, Write
from kernel.log.engine.batch import Batch
from kernel.models import UNRESOLVED, AttemptOutcome, Evidence, UnsolicitedCancelPolicy
from kernel.order_spec import OrderType, Side, StandardOrder, TimeInForce
from kernel.settings import KernelSettings
from kernel.venues.base import Dedupe, ReadLag, TriggerDialect, VenueCapabilities
from replay.host.bootstrap import build_kernel
from replay.testing.scripted_exchange import describe_order
from tests.scenarios.exchange import TranscriptExchange, TranscriptVenue
from tests.scenarios.narrative import Names, Narrator

SEPARATOR = "----"
TIME_WIDTH = 8
STEPS_PER_INSTANT = 300
"""Turns of the loop after which an instant is complete."""
UNWATCHED_S = 10_000
"""Quiet for so long, a stream is not suspected: a transcript shows its own queries, and one a minute."""


class SteadyIds(SeededIds):
    """Ids that repeat, and jitter that is always one half."""

    def fraction(self) -> float:
        return 0.5


class GrantedLease(Lease):
    """A lease that the script grants."""

    def __init__(self) -> None:
        super().__init__(ids=SeededIds(1))
        self.granted = asyncio.Event()
        self.until_ns = FAR_FUTURE_NS
        self._held = False

    @property
    def held(self) -> bool:
        return self._held

    async def acquire(self, wait: bool = True) -> bool:
        if wait:
            await self.granted.wait()
        self._held = self.granted.is_set()
        return self._held

    def deadline_ns(self) -> int | None:
        return self.until_ns if self._held else None

    async def release(self) -> None:
        self._held = False


class WatchedLog(MemoryLog):
    """One process's connection to the log in memory: reports what it records, and stops with its process."""

    def __init__(self, recorder: MemoryRecorder, process: Process, clock: LoopClock) -> None:
        identity = recorder.identity()
        assert identity is not None, "the world's own log is opened first"
        super().__init__(recorder, identity, clock=clock, settings=LogSettings())
        self._process = process

    async def append(self, append: Append) -> Appended:
        process = self._process
        await process.may_run.wait()
        if process.dead:
            raise LogUnavailableError("the process is gone")
        process.fail_append("before", append)
        try:
            appended = await super().append(append)
        except (ConflictError, FencedError) as problem:
            process.world.tell("log", f"refuses {process.name}'s {topics(append)}: {problem}")
            raise
        process.fail_append("after", append)
        process.after_append(append)
        await process.may_run.wait()
        return appended

    async def tail(self, after: int) -> AsyncIterator[list[BaseEvent]]:
        async for batch in super().tail(after):
            await self._process.may_run.wait()
            yield batch

    def _publish(self, batch: Batch) -> None:
        self._process.world.tell_new_rows()
        super()._publish(batch)


def topics(append: Append) -> str:
    return ", ".join(event.topic for write in append.writes for event in write.events)


class Process:
    """One kernel with its port, its lease and its log object: what a kill ends and a pause stops."""

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.world = world
        self.dead = False
        self.may_run = asyncio.Event()
        self.may_run.set()
        self.stand_still_at: str | None = None
        """The operation before whose write, or the topic after whose append, it stops."""
        self.breaks_at: tuple[str, str] | None = None
        """When and at which topic the log fails once."""
        self.commands: set[asyncio.Task[None]] = set()
        """Commands that wait for an answer here."""
        self.lease = GrantedLease()
        self.venue = TranscriptVenue(world.exchange, name)
        self.venue.may_run = self.may_run
        self.venue.before_write = self._reached
        self.venue.audit = world.audit
        self.log = WatchedLog(world.recorder, self, world.clock)
        self.kernel: EventSourcedKernel = build_kernel(
            self.log,
            venue=self.venue,
            lease=self.lease,
            clock=world.clock,
            ids=SteadyIds(len(world.processes) + 2),
            settings=world.settings,
            actor="strategy:test",
        )

    def after_append(self, append: Append) -> None:
        for topic in topics(append).split(", "):
            self._reached(topic)

    def fail_append(self, when: str, append: Append) -> None:
        """Fail an append once, as the script says."""
        if self.breaks_at is not None and self.breaks_at[0] == when and self.breaks_at[1] in topics(append).split(", "):
            self.breaks_at = None
            self.world.tell("log", f"fails {self.name}'s {topics(append)}, {when} it is recorded")
            raise LogUnavailableError("the connection to the log was lost")

    def _reached(self, point: str) -> None:
        if point == self.stand_still_at:
            self.stand_still_at = None
            self.may_run.clear()
            self.world.tell(self.name, f"stands still at {point}")

    async def kill(self) -> None:
        """Nothing is written, sent or received any more; messages in flight stay there."""
        self.dead = True
        for command in list(self.commands):
            command.cancel()
        self.may_run.set()
        self.venue.kill()
        await self.kernel.stop()
        await self.log.close()


class World:
    """Everything that a transcript is about."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.began_ns = self.clock.now_ns()
        self.base = open_log("memory://", exchange_id="paper", clock=self.clock, ids=SeededIds(1))
        assert isinstance(self.base, MemoryLog)
        recorder = self.base.recorder
        assert isinstance(recorder, MemoryRecorder)
        self.recorder = recorder
        self.names = Names()
        self.narrator = Narrator(self.names, lambda: self.began_ns)
        self.exchange = TranscriptExchange(self.clock)
        self.exchange.trace = self.tell
        self.exchange.name = self.names
        self.settings = KernelSettings(stream_quiet_s=UNWATCHED_S)
        self.ids = SeededIds(0)
        """Ids of what the script itself writes; a kernel's seed is never 0."""
        self.processes: dict[str, Process] = {}
        self.lines: list[str] = []
        self.problems: list[str] = []
        """Broken rules: two live orders, or something sent that was not recorded."""
        self._told_rows = 0

    # -------------------------------------------------------------------------------------------------- telling
    def tell(self, channel: str, text: str) -> None:
        """Add a line."""
        self.lines.append(f"{self.narrator.seconds(self.clock.now_ns()):>7} {channel:<5} {text}")
        if channel == "venue":
            self._watch_live_orders()

    def tell_new_rows(self) -> None:
        """Tell what was recorded since the last time."""
        rows = self.recorder.rows[self._told_rows :]
        self._told_rows = len(self.recorder.rows)
        for row in rows:
            line = self.narrator.line(StoredRow(*row))
            if line is not None:
                self.tell("log", line)

    def problem(self, text: str) -> None:
        """Something that must not be."""
        self.problems.append(text)
        self.lines.append(f"        !!    {text}")

    def _watch_live_orders(self) -> None:
        for process in self.processes.values():
            for intent in process.kernel.state.intents():
                live = self.live_of(process, intent.intent_id)
                text = f"{intent.intent_id} has {len(live)} live orders: {', '.join(order.id for order in live)}"
                if len(live) > 1 and text not in self.problems:
                    self.problem(text)
            return

    def live_of(self, process: Process, intent_id: str) -> list[Any]:
        """The exchange's open orders of an intent."""
        client_ids = {client_id for client_id, _ in process.kernel.state.record(intent_id).sends}
        return [order for order in self.exchange.truth if order.open and order.client_order_id in client_ids]

    def audit(self, client_order_id: str) -> None:
        """Nothing is sent that was not logged first."""
        if not any(client_order_id.encode() in row[9] for row in self.recorder.rows if row[3] == "AttemptStarted"):
            self.problem(f"{client_order_id} was sent and is not in the log")

    async def settle(self) -> None:
        """Let everything happen that happens at this instant."""
        for _ in range(STEPS_PER_INSTANT):
            await asyncio.sleep(0)

    # -------------------------------------------------------------------------------------------------- kernels
    @property
    def running(self) -> Process:
        """The kernel started last that runs."""
        return [process for process in self.processes.values() if not process.dead and process.may_run.is_set()][-1]

    async def start(self, name: str) -> None:
        """Start a kernel, which leads as soon as it can."""
        process = Process(name, self)
        self.processes = {**{key: value for key, value in self.processes.items() if key != name}, name: process}
        process.lease.granted.set()
        await process.kernel.start()

    def spawn(self, what: str, run: Callable[[EventSourcedKernel], Coroutine[Any, Any, object]]) -> None:
        """Give a command to the running kernel, concurrently with the script, and add its answer to the transcript."""
        process = self.running

        async def answered() -> None:
            try:
                await run(process.kernel)
            except KernelError as problem:
                text = self.names.in_text(str(problem))
                self.tell("user", f"{what}: {type(problem).__name__} {text}")
            else:
                self.tell("user", f"{what}: done")

        task = asyncio.create_task(answered())
        process.commands.add(task)
        task.add_done_callback(process.commands.discard)

    async def close(self) -> None:
        """End everything."""
        for process in self.processes.values():
            await process.kill()
        await self.base.close()


def parsed_order(words: list[str]) -> StandardOrder:
    """`BUY 2 @100 [stop@99] [IOC]` as an order."""
    tif = next((TimeInForce(word) for word in words if word in TimeInForce.__members__), TimeInForce.GTC)
    stop = next((int(word.removeprefix("stop@")) for word in words if word.startswith("stop@")), None)
    return StandardOrder(
        symbol_id="S",
        side=Side(words[0]),
        order_type=OrderType.LIMIT if stop is None else OrderType.STOP_LIMIT,
        quantity=int(words[1]),
        price=int(words[2].removeprefix("@")),
        stop_price=stop,
        time_in_force=tif,
    )


def seconds(text: str) -> int:
    """Parse `2s` or `2` into nanoseconds."""
    return round(float(text.removesuffix("s")) * NS_PER_S)


CAPABILITIES: dict[str, Callable[[str], dict[str, Any]]] = {
    "lookup": lambda value: {"lookup": value != "no", "lookup_closed": value == "closed"},
    "dedupe": lambda value: {"dedupe": Dedupe(value.upper().replace("-", "_"))},
    "window": lambda value: {"validity_window_ns": None if value == "none" else seconds(value)},
    "skew": lambda value: {"clock_skew_ns": seconds(value)},
    "stamp": lambda value: {"stamp_is_ours": value == "ours"},
    "cancel-total": lambda value: {"cancel_reports_cum_qty": value == "yes"},
    "lag": lambda value: {
        "read_lag": ReadLag(order_ns=seconds(value), open_orders_ns=seconds(value), trades_ns=seconds(value))
    },
    "client-ids": lambda value: {"client_order_ids": value == "yes"},
    "list-ids": lambda value: {"orders_carry_client_id": value == "yes"},
    "trade-ids": lambda value: {"trades_carry_client_id": value == "yes"},
    "trades-lag": lambda value: {"read_lag": ReadLag(trades_ns=seconds(value))},
    "confirm-ends": lambda value: {"confirm_all_ends": value == "all"},
    "looks": lambda value: {"absence_looks": int(value)},
    "ids": lambda value: {"order_ids_unique": value == "unique"},
    "trigger": lambda value: {"trigger": TriggerDialect(value.upper().replace("-", "_"))},
}
"""lookup=closed|open|no, dedupe=none|while-open|for-ever, window=3s|none, skew, stamp=ours|wire, cancel-total=yes|no, lag,
trades-lag, client-ids=yes|no, list-ids=yes|no, trade-ids=yes|no, ids=unique|given-again, trigger=same-order|new-order,
confirm-ends=all, looks."""


class Script:
    """The commands of a transcript."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def run(self, line: str) -> None:
        """Run one line."""
        world = self.world
        verb, *words = line.split()
        if verb == "venue:":
            await self.venue(words[0], words[1:])
        else:
            await getattr(self, f"do_{verb}")(*words)
        await world.settle()
        world.tell_new_rows()

    async def do_venue(self, *words: str) -> None:
        fields: dict[str, Any] = {}
        for key, value in (word.split("=") for word in words):
            fields |= CAPABILITIES[key](value)
        self.world.exchange.capabilities = VenueCapabilities(**fields)

    async def do_settings(self, *words: str) -> None:
        given: dict[str, Any] = dict(word.split("=") for word in words)
        settings = {"stream_quiet_s": UNWATCHED_S} | {key.replace("-", "_"): value for key, value in given.items()}
        self.world.settings = KernelSettings(**settings)

    async def do_start(self, name: str) -> None:
        await self.world.start(name)

    async def do_takeover(self, name: str) -> None:
        for process in self.world.processes.values():
            process.lease.granted.clear()
        await self.world.start(name)

    async def do_stop(self, name: str) -> None:
        await self.world.processes[name].kernel.stop()

    async def do_kill(self, name: str) -> None:
        await self.world.processes[name].kill()

    async def do_lease(self, name: str, until: str, when: str) -> None:
        self.world.processes[name].lease.until_ns = self.world.began_ns + seconds(when)

    async def do_pause(self, name: str, how: str = "", point: str = "") -> None:
        process = self.world.processes[name]
        if how:
            process.stand_still_at = point
        else:
            process.may_run.clear()

    async def do_break(self, name: str, when: str, topic: str) -> None:
        self.world.processes[name].breaks_at = (when, topic)

    async def do_resume(self, name: str) -> None:
        process = self.world.processes[name]
        process.stand_still_at = None
        process.may_run.set()

    async def do_place(self, intent_id: str, *words: str) -> None:
        policy = UnsolicitedCancelPolicy.RECREATE if "recreate" in words else UnsolicitedCancelPolicy.STOP
        order = parsed_order(list(words))
        self.world.spawn(
            f"place {intent_id}",
            lambda kernel: kernel.place_order(order, intent_id=intent_id, on_unsolicited_cancel=policy),
        )

    async def do_cancel(self, intent_id: str) -> None:
        self.world.spawn(f"cancel {intent_id}", lambda kernel: kernel.cancel_order(intent_id))

    async def do_resolve(self, intent_id: str, how: str) -> None:
        words: dict[str, Any] = {"outcome": AttemptOutcome.DEAD} if how == "dead" else {"order": how}
        self.world.spawn(
            f"resolve {intent_id}", lambda kernel: kernel.resolve_attempt(intent_id, evidence="the script", **words)
        )

    async def do_change(self, intent_id: str, *words: str) -> None:
        """A new record of the intent, as its store writes it."""
        process = self.world.running
        record = process.kernel.state.record(intent_id)
        assert record.intent is not None
        given = structs.replace(record.intent, order=parsed_order(list(words)))
        made = decide(record, UpdateIntent(given, self.world.clock.now_ns()))
        write = Write(intent_stream(intent_id), tuple(made), record.version)
        command_id = self.world.ids.command_id(self.world.clock.now_ns())
        await process.log.append(Append(command_id, (write,), "strategy:test", Evidence.OPERATOR))

    async def do_relist(self, name: str) -> None:
        """The kernel takes a snapshot of the venue."""
        leader = self.world.processes[name].kernel._runtime.leader
        assert leader is not None
        leader.session.relist_now()

    async def do_time(self, how_long: str) -> None:
        await asyncio.sleep(seconds(how_long.removeprefix("+")) / 1e9)

    async def do_show(self) -> None:
        world = self.world
        state = world.running.kernel.state
        for intent in state.intents():
            record = state.record(intent.intent_id)
            shown = order_state(record)
            text = "nothing sent"
            if shown is not None:
                status = shown.status
                text = f"{status.ord_status} {status.cum_qty}/{status.order.quantity} {shown.reconciliation_status}"
                open_attempts = [
                    f"{world.names(item.client_order_id)} {item.outcome}"
                    for item in shown.attempts
                    if item.outcome in UNRESOLVED
                ]
                text += "".join(f"; {item}" for item in open_attempts)
            world.lines.append(f"        log   {intent.intent_id} {intent.desired} {intent.order.quantity}: {text}")
        for finding in state.findings():
            if finding.resolved_at_ns is None and finding.intent_id is not None:
                world.lines.append(f"        log   {finding.kind} stands")
        for order in world.exchange.truth:
            world.lines.append(
                f"        venue {describe_order(order)} ({world.names(order.client_order_id) or 'foreign'})"
            )

    async def do_end(self) -> None:
        """Faults stop; after two minutes log and venue must agree; differences are printed."""
        exchange = self.world.exchange
        exchange.flow()
        exchange.thaw()
        exchange.script.refusal = None
        exchange.script.failing.clear()
        exchange.script.partial = exchange.script.unsendable = False
        for process in self.world.processes.values():
            process.may_run.set()
        await asyncio.sleep(120)
        await self.world.settle()
        await self.do_show()
        differing = list(differences(self.world))
        self.world.lines += [f"        differ: {text}" for text in differing] or ["        log and venue agree"]

    async def venue(self, verb: str, words: list[str]) -> None:
        exchange = self.world.exchange
        match verb:
            case "reject":
                later = next((word for word in words if word.startswith("later=")), None)
                text = " ".join(word for word in words if word != later)
                after_s = float(later.removeprefix("later=").removesuffix("s")) if later else None
                exchange.script.refusal = Rejected(text, code="NO", retry_after_s=after_s)
            case "accept":
                exchange.script.refusal = None
            case "fail" if words[0] not in exchange.wire:
                exchange.script.failing[words[0]] = " ".join(words[1:])
            case "fail":
                exchange.fail(words[0], " ".join(words[1:]))
            case "heal":
                exchange.script.failing.clear()
                exchange.script.partial = exchange.script.unsendable = False
            case "partial":
                exchange.script.partial = True
            case "cut":
                exchange.script.unsendable = True
            case "fill":
                exchange.fill(words[0], int(words[1]))
            case "foreign":
                exchange.foreign(words[0], int(words[1]), int(words[2].removeprefix("@")))
            case _:
                getattr(exchange, verb)(*words)


def differences(world: World) -> list[str]:
    """In what log and venue do not agree."""
    state = world.running.kernel.state
    found = []
    for intent in state.intents():
        record = state.record(intent.intent_id)
        ours = {client_id for client_id, _ in record.sends}
        orders = [order for order in world.exchange.truth if order.client_order_id in ours]
        filled = sum(order.cum_qty for order in orders)
        live = sorted(order.id for order in orders if order.open)
        known = sorted(facts.exchange_order_id for facts in record.live_orders)
        if filled != record.cum_qty:
            found.append(f"{intent.intent_id}: the venue filled {filled}, the log has {record.cum_qty}")
        if live != known:
            found.append(f"{intent.intent_id}: at the venue {live} work, in the log {known}")
        if record.unresolved:
            found.append(f"{intent.intent_id}: unsettled {[world.names(a.client_order_id) for a in record.unresolved]}")
    return found


async def play(text: str) -> tuple[str, World]:
    """Return the expected transcript, and the closed world."""
    world = World()
    script = Script(world)
    try:
        blocks = [await play_block(script, block) for block in text.strip("\n").split("\n\n")]
    finally:
        with suppress(asyncio.CancelledError):
            await world.close()
    return "\n\n".join(blocks) + "\n", world


async def play_block(script: Script, block: str) -> str:
    """Return one block with its effects."""
    commands = block.split(SEPARATOR)[0].rstrip("\n").splitlines()
    script.world.lines = []
    ran = False
    for line in commands:
        if not line.startswith("#"):
            ran = True
            await script.run(line)
    if not ran:
        return "\n".join(commands)
    return "\n".join([*commands, SEPARATOR, *shortened(script.world.lines)])


def shortened(lines: list[str]) -> list[str]:
    """Print a repeated query with the same answer twice, with its count."""
    kept: list[str] = []
    for text, repeated in itertools.groupby(lines, key=lambda line: line[TIME_WIDTH:]):
        same = list(repeated)
        if len(same) <= 3:
            kept += same
        else:
            kept += [*same[:2], f"{same[-1][:TIME_WIDTH]}{text} ({len(same) - 2} more)"]
    return kept

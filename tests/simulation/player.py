"""Plays a plan: commands and faults, then a quiet period, then the auditor's final account.

Called by the command line, the shrinker and the tests. The same plan gives the same run, byte for byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from kernel.errors import ExchangeError, KernelError, VenueError
from kernel.events import BaseEvent
from kernel.log.backends.memory import MemoryRecorder
from kernel.log.base import StoredRow
from kernel.log.engine.records import event_of
from kernel.models import ReconciliationStatus, UnsolicitedCancelPolicy
from kernel.order_spec import OcoMode, OrderType, StandardOrderGroup
from kernel.streams.rehydration import apply_batch, ensure_loaded
from kernel.venues.paper.faults import Fault
from projections import State
from tests.simulation.account import Problem
from tests.simulation.bystanders import Bystanders
from tests.simulation.loop import Endless, SteppedLoop, run
from tests.simulation.market import order_of
from tests.simulation.plan import NOBODY, Op, Plan
from tests.simulation.venue_events import VenueEvents
from tests.simulation.world import Process, World

QUIET_S_MAX = 400
"""How long, after faults have stopped, everything may take to converge."""
STEP_S = 5
RESTLESS_S = 70
"""How long nothing may change before what is not at rest counts as stuck: longer than the longest delay after failures."""
MODES = {
    "NONE": OcoMode.NONE,
    "OCO": OcoMode.ONE_CANCELS_OTHER,
    "OUO": OcoMode.ONE_UPDATES_OTHER,
    "OTO": OcoMode.ONE_TRIGGERS_OTHER,
}
AT_REST = (ReconciliationStatus.SYNCED, ReconciliationStatus.FAILED)


@dataclass
class Outcome:
    """The outcome of a run."""

    plan: Plan
    problems: list[Problem]
    lines: list[str]
    digest: str
    """Digest of the whole log and of all answers: equal for equal runs."""
    counts: Counter[str] = field(default_factory=Counter)
    faults: dict[tuple[str, str, int], Fault] = field(default_factory=dict)
    """The faults that met something."""
    recorder: MemoryRecorder | None = None
    """The log."""

    @property
    def failed(self) -> bool:
        return bool(self.problems)


def play(plan: Plan, *, trace: bool = True) -> Outcome:
    """Play a plan on a loop of its own."""

    players: list[Player] = []

    async def _play(loop: SteppedLoop) -> Outcome:
        players.append(Player(plan, loop, trace=trace))
        return await players[0].play()

    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)  # a kernel under faults has much to say, and nobody to read it
    try:
        outcome: Outcome = run(_play)
    except Endless as problem:
        players[0].world.audit.problem(3, f"{problem}: something repeats itself without a pause")
        outcome = players[0].outcome()
    finally:
        logging.disable(disabled)
    return outcome


class Player(Bystanders, VenueEvents):
    """One run."""

    def __init__(self, plan: Plan, loop: SteppedLoop, *, trace: bool) -> None:
        self.world = World(plan, loop, trace=trace)
        self.plan = plan
        self.loop = loop
        self.counts: Counter[str] = Counter()

    async def play(self) -> Outcome:
        """The whole run."""
        world = self.world
        world.tell_rows()
        await world.exchange.start()
        for op in self.plan.ops:
            await self._until(op.at_s)
            self._happen(op)
        await self._quiet()
        await self._done_acting()
        await self._folded()
        await self._account()
        await self._bury()
        if self.loop.errors:
            world.audit.problem(3, f"an exception nobody looked at: {self.loop.errors[0]}")
        return self.outcome()

    def outcome(self) -> Outcome:
        """Return the outcome of the run."""
        world = self.world
        told, digest = world.audit.problems, self._digest()
        return Outcome(self.plan, told, world.lines, digest, self.counts, world.happened, world.recorder)

    async def _until(self, at_s: float) -> None:
        if at_s > self.loop.time():
            await asyncio.sleep(at_s - self.loop.time())

    def _happen(self, op: Op) -> None:
        """Let one thing of the plan happen; what is not possible now does not."""
        verb, *words = op.words
        if verb != "start":
            self.world.tell(op.kernel, " ".join(op.words))
        if op.kernel == NOBODY:
            getattr(self, f"_do_{verb.replace('-', '_')}")(*words)
            return
        if verb == "start":
            self.world.start(op.kernel)
            return
        process = self.world.process(op.kernel)
        if process is None or process.steps.still:
            return
        if verb in ("kill", "pause", "unsure"):
            getattr(self, f"_{verb}")(process, *words)
            return
        process.run(self._command(process, verb, words))

    # ------------------------------------------------------------------------------------------------------ strategies
    async def _command(self, process: Process, verb: str, words: list[str]) -> None:
        """A command at one kernel, and the answer that its strategy receives."""
        self.counts["commands"] += 1
        audit = self.world.audit
        try:
            await getattr(self, f"_{verb.replace('-', '_')}")(process, *words)
        except ExchangeError as problem:
            self.counts["refused"] += 1
            intent_id = problem.intent_id or (words[0] if words else "")
            intent = process.kernel.state.intent(intent_id)
            if verb == "cancel" and intent is not None:
                audit.too_late(intent_id=intent_id, generation=intent.generation)
            if verb in ("place", "group") and intent is not None:
                audit.refused(intent_id=intent_id, generation=intent.generation)
            self.world.tell(process.label, f"{verb} {intent_id}: refused, {problem.text}")
        except KernelError as problem:
            self.counts[type(problem).__name__] += 1
            self.world.tell(process.label, f"{verb} {words[0] if words else ''}: {type(problem).__name__}")
        else:
            self.counts["answered"] += 1
            if verb in ("place", "group", "cancel") and not process.dead:
                for intent_id in [words[0]] if verb != "group" else members_of(words):
                    audit.acknowledged(kind=verb, intent_id=intent_id)

    async def _place(
        self, process: Process, intent_id: str, symbol_id: str, side: str, quantity: str, *more: str
    ) -> None:
        policy = UnsolicitedCancelPolicy.RECREATE if "recreate" in more else UnsolicitedCancelPolicy.STOP
        await process.kernel.place_order(
            order_of(symbol_id, side, quantity, *more),
            intent_id=intent_id,
            owner=owner_of(more),
            on_unsolicited_cancel=policy,
            wait="recorded" if "recorded" in more else "ack",
        )

    async def _group(self, process: Process, group_id: str, mode: str, symbol_id: str, *more: str) -> None:
        """Orders that depend on each other, all at once."""
        policy = UnsolicitedCancelPolicy.RECREATE if "recreate" in more else UnsolicitedCancelPolicy.STOP
        members = [word.split(":") for word in more if ":" in word]
        orders = [
            order_of(symbol_id, side, terms.split("@")[0], f"@{terms.split('@')[1]}") for _, side, terms in members
        ]
        await process.kernel.place_order_group(
            StandardOrderGroup(orders=tuple(orders), mode=MODES[mode]),
            group_id=group_id,
            intent_ids=[member[0] for member in members],
            owner=owner_of(more),
            on_unsolicited_cancel=policy,
            wait="recorded" if "recorded" in more else "ack",
        )

    async def _cancel(self, process: Process, intent_id: str, *more: str) -> None:
        await process.kernel.cancel_order(intent_id, wait="recorded" if "recorded" in more else "ack")

    async def _cancel_all(self, process: Process, symbol_id: str) -> None:
        await process.kernel.cancel_all_orders(symbol_id)

    async def _change(self, process: Process, intent_id: str, quantity: str, price: str) -> None:
        """A new record of the intent for its store; skipped if there are limits, which a store does not know."""
        if self.plan.world.get("limits") == "tight":
            return
        store = process.kernel.intent_store
        intent = await store.get_intent(intent_id)
        if intent.order.order_type is OrderType.MARKET:
            return
        order = structs.replace(intent.order, quantity=int(quantity), price=int(price.removeprefix("@")))
        await store.update_intent(structs.replace(intent, order=order))

    async def _modify(self, process: Process, intent_id: str, quantity: str, price: str) -> None:
        """New terms, as a strategy asks for them."""
        intent = await process.kernel.get_order_intent(intent_id)
        if intent.order.order_type is not OrderType.MARKET:
            terms = {"quantity": int(quantity), "price": int(price.removeprefix("@"))}
            await process.kernel.modify_order(intent_id, structs.replace(intent.order, **terms))

    async def _read(self, process: Process, intent_id: str) -> None:
        self._show(process, intent_id)

    async def _watch(self, process: Process, since: str) -> None:
        """Subscribe to every event, from the beginning or from now on."""
        after = 0 if since == "start" else process.kernel.state.position
        process.watchers += 1
        watcher = f"{process.label}'s subscriber {process.watchers}"

        async def heard(event: BaseEvent) -> None:
            self.world.audit.heard(watcher=watcher, position=event.position)

        process.kernel.subscribe_events(heard, after=after)
        self.world.audit.watches(watcher=watcher, after=after)

    async def _force(self, process: Process, intent_id: str) -> None:
        await process.kernel.force_reconciliation(intent_id)

    def _show(self, process: Process, intent_id: str) -> None:
        state = process.kernel.state.order_state(intent_id)
        newest = process.kernel.state.position == self.world.recorder.head().position
        if state is not None and newest:  # what a kernel has yet to hear of, it can't show
            self.world.audit.read(**shown(intent_id, state))

    # -------------------------------------------------------------------------------------------- what befalls a process
    def _kill(self, process: Process, where: str, count: str = "0") -> None:
        self._arm(process, where, int(count), process.kill)

    def _pause(self, process: Process, how_long: str, where: str, count: str = "0") -> None:
        self._arm(process, where, int(count), lambda: process.pause(float(how_long)))

    def _arm(self, process: Process, where: str, count: int, act: Any) -> None:
        if where == "now":
            act()
        elif where == "after":
            process.steps.alarm, process.steps.alarm_at = act, process.steps.taken + count
        else:
            process.stops[where] = act

    def _unsure(self, process: Process, count: str) -> None:
        process.log.unsure = int(count)

    # ------------------------------------------------------------------------------------------- what befalls everything
    def _do_lease(self) -> None:
        """The session that holds the lease ends without its holder's knowledge."""
        if self.plan.world["lease"] == "session":
            self.world.lease_holder = None

    def _do_outage(self, how_long: str) -> None:
        self.world.outage = True
        self.world.later(float(how_long), self._end_outage)

    def _end_outage(self) -> None:
        self.world.outage = False

    def _do_trade(self, symbol_id: str, price: str, quantity: str) -> None:
        self.world.exchange.trade(symbol_id, price=int(price), quantity=int(quantity))

    def _do_other(self, symbol_id: str, side: str, quantity: str, price: str) -> None:
        try:
            self.world.exchange.engine.place_other(order_of(symbol_id, side, quantity, price))
        except (KernelError, VenueError) as problem:
            self.world.tell("venue", f"refuses another's order: {problem}")

    def _do_end(self, which: str) -> None:
        """The venue ends one of our orders by itself."""
        orders = sorted(order.order_id for order in self.world.exchange.engine.book.own_open())
        if orders:
            self.world.exchange.engine.cancel_order(exchange_order_id=str(orders[int(which) % len(orders)]))

    def _do_bust(self, which: str) -> None:
        """A trade of ours is void."""
        self._correct(int(which), lambda trade: {"quantity": 0})

    def _do_correct(self, which: str, by: str, more: str = "0") -> None:
        """A trade of ours has another price, and another quantity."""
        self._correct(
            int(which), lambda trade: {"price": trade.price + int(by), "quantity": max(1, trade.quantity + int(more))}
        )

    def _correct(self, which: int, changes: Any) -> None:
        trades = [trade for trade in self.world.exchange.engine.book.trades.values() if trade.quantity]
        if not trades:
            return
        trade = trades[which % len(trades)]
        change = changes(trade)
        if change["quantity"] < trade.quantity and self.world.personality.is_given_again(str(trade.order_id)):
            return  # a filled order would be open again, together with the one that has its id by now
        try:
            self.world.exchange.engine.correct(trade.trade_id, **change)
        except KernelError as problem:
            self.world.tell("venue", f"has no such correction: {problem}")

    def _do_halt(self, symbol_id: str, how_long: str) -> None:
        engine = self.world.exchange.engine
        engine.halt(symbol_id)
        self.world.later(float(how_long), lambda: engine.resume(symbol_id))

    def _do_tick(self, symbol_id: str, tick_size: str) -> None:
        """The tick size changes; clients learn of it when they reconnect."""
        self.world.exchange.engine.set_filters(symbol_id, tick_size=int(tick_size))
        self.world.audit.ticks[symbol_id] = int(tick_size)
        self.world.exchange.disconnect()

    def _do_disconnect(self) -> None:
        self.world.exchange.disconnect()

    def _do_relist(self, name: str) -> None:
        process = self.world.process(name)
        if process is not None and (leader := process.kernel._runtime.leader) is not None:
            leader.session.relist_now()

    # ------------------------------------------------------------------------------------------------------------ the end
    async def _quiet(self) -> None:
        """Faults stop, everything runs; wait until all agree, or for long enough."""
        world = self.world
        await self._until(self.loop.time() + 0.001)
        world.quiet = True
        world.outage = False
        world.personality.calm()
        for process in world.alive:
            process.stops.clear()
            process.steps.alarm_at = -1
            process.log.unsure = 0
            process.go_on()
        self.world.tell(NOBODY, "faults stop")
        began_s, same_since_s, before = self.loop.time(), self.loop.time(), self._restless()
        while self.loop.time() < began_s + QUIET_S_MAX:
            self._heal()
            await asyncio.sleep(STEP_S)
            await self._last_word()
            restless = self._restless()
            if restless != before:
                before, same_since_s = restless, self.loop.time()
            if (
                self.loop.time() - same_since_s >= (20 if not restless else RESTLESS_S)
                and self.loop.time() - began_s >= 40
            ):
                return

    async def _done_acting(self) -> None:
        """Wait, not for long, until nothing is in the middle of a step: an order may be placed again each minute."""
        for _ in range(100):
            if not any("IN_FLIGHT" in item or "PENDING" in item for item in self._restless()):
                return
            await asyncio.sleep(0.1)

    async def _folded(self) -> None:
        """Wait until everybody has folded all that is in the log: news take their time."""
        for _ in range(100):
            head = self.world.recorder.head().position
            folded = all(process.kernel.state.position == head for process in self.world.alive)
            if folded and not any(map(self.world.audit.is_behind, self._watchers())):
                return
            await asyncio.sleep(0.01)

    def _heal(self) -> None:
        """Act as a supervisor: restart a kernel that gave up."""
        for process in self.world.alive:
            if process.kernel._runtime.problem is not None:
                self.counts["gave up"] += 1
                process.kill()
        for op in self.plan.ops:
            if op.words == ("start",):
                self.world.start(op.kernel)

    async def _last_word(self) -> None:
        """An operator resolves every unknown attempt, if the plan has one, or an external order may be its order (H20), and
        every gap in the trades."""
        leader = self._leader()
        hides = self.world.personality.names & {"unnamed-trades", "unnamed-orders", "short-history"}
        needed = hides or self.plan.world["lookup"] != "closed"
        if leader is not None and (needed or self.plan.world.get("operator") == "yes"):
            with contextlib.suppress(KernelError):
                await self._resolve(leader)

    def _leader(self) -> Process | None:
        holder = self.world.lease_holder
        return next((item for item in self.world.alive if item.lease is holder), None)

    def _restless(self) -> tuple[str, ...]:
        """The intents that are not at rest, by the leader."""
        leader = self._leader()
        if leader is None:
            return ("nobody leads",)
        state = leader.kernel.state
        found = []
        for intent in state.intents():
            order = state.order_state(intent.intent_id)
            wish = state.effective_intent(intent.intent_id)
            if order is None and wish is not None and wish.order.quantity == 0:
                continue  # its group lets it be nothing
            if state.trading_status.halted(intent.order.symbol_id) and not state.record(intent.intent_id).may_be_live:
                continue  # it waits for the halt's end
            if order is None or order.reconciliation_status not in AT_REST:
                status, failures = (order.reconciliation_status, order.failures) if order else ("PENDING", 0)
                found.append(f"{intent.intent_id} {status} after {failures} failures")
        return tuple(found)

    async def _account(self) -> None:
        """The auditor's final checks."""
        world = self.world
        leader = self._leader()
        if leader is None:
            world.audit.problem(3, "nobody leads at the end")
            return
        state, known = leader.kernel.state, world.audit.intents
        for intent_id in known:
            await ensure_loaded(leader.log, state, intent_id)
        read = [shown(intent_id, order) for intent_id in known
                if state.intent(intent_id) is not None and (order := state.order_state(intent_id)) is not None]  # fmt: skip
        world.audit.now_ns = world.clock.now_ns()
        world.audit.finish(world.exchange.engine.truth(), read)
        world.audit.positions({item.symbol_id: item.quantity for item in state.positions()})
        rebuilt = State(world.keeping)
        await apply_batch(leader.log, rebuilt, [event_of(StoredRow(*row)) for row in world.recorder.rows])
        alive = {item.label: item.kernel.state.digest() for item in world.alive}
        world.audit.digests({"rebuilt": rebuilt.digest(), **alive})
        for watcher in self._watchers():
            if world.audit.is_behind(watcher):
                world.audit.problem(8, f"{watcher} was not told of everything")

    def _watchers(self) -> list[str]:
        """The subscribers that still run."""
        alive = self.world.alive
        return [f"{process.label}'s subscriber {number + 1}" for process in alive for number in range(process.watchers)]

    async def _bury(self) -> None:
        """End every task: the dead take their last steps now, and can do nothing with them."""
        for process in self.world.processes:
            process.dead = True
            self.loop.go_on(process.steps)
        await self.world.exchange.stop()
        me = asyncio.current_task()
        for _ in range(50):
            left = [task for task in asyncio.all_tasks() if task is not me]
            if not left:
                return
            for task in left:
                task.cancel()
            await asyncio.sleep(0.01)
        self.world.audit.problem(3, f"tasks do not end: {sorted(task.get_name() for task in left)}")

    def _digest(self) -> str:
        told = hashlib.sha256("\n".join(self.world.lines).encode())
        told.update(self.world.recorder.head().chain_hash)
        return told.hexdigest()


def members_of(words: list[str]) -> list[str]:
    """The intents of a group, from the fields of a plan."""
    return [word.split(":")[0] for word in words if ":" in word]


def owner_of(words: Sequence[str]) -> str:
    """The owner of the orders, from the fields of a plan."""
    return next((word.removeprefix("owner=") for word in words if word.startswith("owner=")), "")


def shown(intent_id: str, state: Any) -> dict[str, Any]:
    """A query's answer in the auditor's form."""
    return {
        "intent_id": intent_id,
        "ord_status": state.status.ord_status.value,
        "cum_qty": state.status.cum_qty,
        "reconciliation_status": state.reconciliation_status.value,
    }

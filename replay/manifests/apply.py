"""What `apply` does: manifests held against the intents in the log, then made so. Declarative, and safe to repeat.

Called by the CLI's `apply` and `diff -f`, and by strategies that keep their orders in files. `steps_for` looks and changes
nothing; `apply` does the steps, each durable before the next; cut short, it is simply run again. An intent's id is the
manifest's name, and what is in no manifest is left alone. Nothing is appended when one document can't be applied.

An order counts as the same when its terms are equal at the market's scales. Owner, labels and the policy for unsolicited
cancels are compared too: a change of those alone is `configured` by a store's write, with no new generation and nothing
sent to the venue. An order that is filled stays `unchanged`; one that ended otherwise can't be brought back by its name.

A group is created whole, in one append. Afterwards its orders are changed one by one, like others; its mode, and which
orders belong to it, stay what they are. What its group has canceled or shrunk is as it was wanted: `unchanged`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from kernel import EventSourcedKernel
from kernel.clock import Clock, SystemClock
from kernel.commands.validation import symbol_named
from kernel.commands.waiters import refusal
from kernel.errors import ConflictError, ExchangeError, ValidationError, Violation
from kernel.groups import Group, group_max_excess
from kernel.models import Desired, OrderIntent, OrdStatus
from kernel.order_spec import OcoMode, StandardOrder, StandardOrderGroup, SymbolMetadata, trimmed
from kernel.plan import difference
from kernel.state import KernelState
from kernel.streams.rehydration import ensure_loaded
from replay.formatting.output import utc
from replay.manifests.schema import (
    GroupManifest,
    Manifest,
    OrderManifest,
    market_problems,
    orders_of,
    problem_of,
    standard_order,
)
from replay.views.conditions import has_failed, holds_in_time, terminal_status
from replay.views.groups import limited_by

FIXED = ("symbol_id", "side")
"""What a change can't change: another name is another order."""
TOGETHER_MAX = 64
"""How many manifests are applied at the same time."""


class Action(StrEnum):
    """What applying a manifest comes to."""

    CREATED = "created"
    CONFIGURED = "configured"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class OrderStep:
    """One order of a manifest, and what applying it comes to."""

    manifest: OrderManifest
    order: StandardOrder
    symbol: SymbolMetadata
    known: OrderIntent | None
    """The intent as it is; none when it is to be created."""
    action: Action
    conflict: str = ""
    """Why it can't be applied."""

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def line(self) -> str:
        """What it comes to, as in `order/NAME created`."""
        return f"{title(self.manifest)} {self.action}"

    @property
    def changes_order(self) -> bool:
        """Whether an order is placed or gets other terms."""
        return self.known is None or self.known.order != self.order


@dataclass(frozen=True, slots=True)
class GroupStep:
    """One group of a manifest, and what applying it comes to."""

    manifest: GroupManifest
    members: tuple[OrderStep, ...]
    known: Group | None
    """The group as it is; none when it is to be created."""
    own_conflict: str = ""
    """Why it can't be applied, whatever its orders are."""

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def action(self) -> Action:
        """Created whole, or configured where one of its orders is."""
        if self.known is None:
            return Action.CREATED
        changed = any(member.action is not Action.UNCHANGED for member in self.members)
        return Action.CONFIGURED if changed else Action.UNCHANGED

    @property
    def line(self) -> str:
        """What it comes to, as in `ordergroup/NAME created`."""
        return f"{title(self.manifest)} {self.action}"

    @property
    def conflict(self) -> str:
        """Why it can't be applied: of itself, or of each order that can't be."""
        of_orders = [f"its order {member.name}: {member.conflict}" for member in self.members if member.conflict]
        return self.own_conflict or "; ".join(of_orders)

    @property
    def group(self) -> StandardOrderGroup:
        """The group as it is wanted."""
        return StandardOrderGroup(orders=tuple(item.order for item in self.members), mode=self.manifest.mode)


Step = OrderStep | GroupStep


def orders_in(steps: Iterable[Step]) -> list[OrderStep]:
    """The orders of steps, those of groups included."""
    return [order for step in steps for order in (step.members if isinstance(step, GroupStep) else (step,))]


def title(manifest: Manifest) -> str:
    """A manifest as kubectl names things: `order/NAME`."""
    return f"{'order' if isinstance(manifest, OrderManifest) else 'ordergroup'}/{manifest.name}"


# --------------------------------------------------------------------------------------------------------------- looking
async def recalled(kernel: EventSourcedKernel, manifests: Sequence[Manifest]) -> None:
    """See to it that what manifests name can be told of, however long ago it was."""
    names = [name for item in manifests for name in (item.name, *(order.name for order in orders_of(item)))]
    await ensure_loaded(kernel.log, kernel.state, *names)


def steps_for(
    kernel: EventSourcedKernel, manifests: Sequence[Manifest], *, clock: Clock | None = None
) -> tuple[Step, ...]:
    """What applying manifests would come to, conflicts included.

    Raises `ValidationError` with every order that its market does not take, `NotReadyError` when no market is known.
    """
    planner = Planner(kernel, (clock or SystemClock()).now_ns())
    found = [planner.step(manifest) for manifest in manifests]
    if planner.problems:
        count = len(planner.problems)
        raise ValidationError(f"the manifests can't be applied, nothing was ({count} problems)", planner.problems)
    return tuple(step for step in found if step is not None)


def check(kernel: EventSourcedKernel, steps: Sequence[Step]) -> None:
    """Raise what stands in the way of applying: `ConflictError` with a line for each, or `ValidationError` for what is
    beyond a pre-trade limit (all orders together)."""
    if conflicts := conflicts_of(steps):
        problem = ConflictError(
            f"the manifests conflict with what is in the log, nothing was applied ({len(conflicts)})"
        )
        for line in conflicts:
            problem.add_note(line)
        raise problem
    check_limits(kernel, steps)


def conflicts_of(steps: Sequence[Step]) -> list[str]:
    """Why they can't be applied, a line each."""
    return [f"{title(step.manifest)}: {step.conflict}" for step in steps if step.conflict]


def excess_lines(steps: Sequence[Step]) -> list[str]:
    """What groups that are to be created, or get other terms, may come to beyond what is wanted; a line for each."""
    changed = [
        step
        for step in steps
        if isinstance(step, GroupStep) and not step.conflict and any(item.changes_order for item in step.members)
    ]
    return [
        f"{title(step.manifest)}: up to {trimmed(symbol.quantity_to_decimal(excess))} {symbol.base_asset} more than is"
        " wanted may fill, where its orders fill before the first report is here"
        for step in changed
        if (excess := group_max_excess(step.group)) > 0
        for symbol in [step.members[0].symbol]
    ]


def check_limits(kernel: EventSourcedKernel, steps: Sequence[Step]) -> None:
    """Raise when what would be placed or changed is, all together, beyond a limit."""
    orders = {step.name: step for step in orders_in(steps)}
    new = [step for step in steps if isinstance(step, GroupStep) and step.known is None]
    whole = {member.name for step in new for member in step.members}
    alone = [step for step in orders.values() if step.changes_order and step.name not in whole]
    groups = [(step.manifest.mode, [limited(member) for member in step.members]) for step in new]
    found = kernel.limits_exceeded([limited(step) for step in alone], groups)
    if found:
        problems = [limit_problem(orders[name], item) for name, item in found]
        raise ValidationError(f"the manifests are beyond the limits, nothing was applied ({len(found)})", problems)


def limited(step: OrderStep) -> tuple[str, StandardOrder, SymbolMetadata]:
    """What the limits look at of an order."""
    return step.name, step.order, step.symbol


def limit_problem(step: OrderStep, item: Violation) -> Violation:
    in_manifest = replace(item, field=item.field.removeprefix("order."))
    return problem_of(step.manifest, in_manifest, "lower the quantity or cancel another order first")


class Planner:
    """Finds the steps of manifests, one after the other."""

    def __init__(self, kernel: EventSourcedKernel, now_ns: int) -> None:
        self._state = kernel.state
        self._now_ns = now_ns
        self._new: Counter[str] = Counter()
        """How many orders will be created, by symbol."""
        self.problems: list[Violation] = []

    def step(self, manifest: Manifest) -> Step | None:
        """The step of a manifest; none for what can't be, whose problems are kept."""
        if isinstance(manifest, GroupManifest):
            return self._group_step(manifest)
        found = self._order_step(manifest)
        taken = found is not None and found.known is None and self._state.group(manifest.name) is not None
        return replace(found, conflict="a group has this name: choose another") if found and taken else found

    def _group_step(self, manifest: GroupManifest) -> GroupStep | None:
        known = self._state.group(manifest.name)
        follow = manifest.mode is OcoMode.ONE_TRIGGERS_OTHER
        found = [
            self._order_step(item, group=manifest.name, waits=follow and index > 0)
            for index, item in enumerate(manifest.orders)
        ]
        members = tuple(item for item in found if item is not None)
        if len(members) < len(found):
            return None
        return GroupStep(manifest, members, known, group_conflict(self._state, manifest, known))

    def _order_step(
        self, manifest: OrderManifest, *, group: str | None = None, waits: bool = False
    ) -> OrderStep | None:
        """The step of an order, of a group or of none; `waits`: it is not open before others have filled."""
        before = len(self.problems)
        symbol = self._symbol(manifest)
        order = self._order(manifest, symbol) if symbol is not None else None
        if symbol is None or order is None:
            return None
        known = self._state.intent(manifest.name)
        if known is None:
            self._check_new(manifest, order, symbol, waits=waits)
            step = OrderStep(manifest, order, symbol, None, Action.CREATED)
        else:
            foreign = foreign_to(known, group)
            if known.order != order and not foreign:
                self._check_change(manifest, known, order, symbol)
            conflict = foreign or conflict_of(self._state, known, order)
            step = OrderStep(manifest, order, symbol, known, action_for(known, manifest, order), conflict)
        return step if len(self.problems) == before else None

    def _symbol(self, manifest: OrderManifest) -> SymbolMetadata | None:
        try:
            return symbol_named(self._state, manifest.terms.symbol_id)
        except ValidationError as problem:
            self.problems += [problem_of(manifest, replace(item, field="symbol_id")) for item in problem.violations]
            return None

    def _order(self, manifest: OrderManifest, symbol: SymbolMetadata) -> StandardOrder | None:
        try:
            return standard_order(manifest, symbol)
        except ValidationError as problem:
            self.problems += problem.violations
            return None

    def _check_new(self, manifest: OrderManifest, order: StandardOrder, symbol: SymbolMetadata, *, waits: bool) -> None:
        open_orders = 0 if waits else self._state.open_orders(order.symbol_id) + self._new[order.symbol_id]
        self._new[order.symbol_id] += not waits
        self.problems += market_problems(manifest, order, symbol, open_orders=open_orders)
        self._check_expiry(manifest, order)

    def _check_change(
        self, manifest: OrderManifest, known: OrderIntent, order: StandardOrder, symbol: SymbolMetadata
    ) -> None:
        self.problems += market_problems(manifest, order, symbol)
        self._check_expiry(manifest, order)
        for name in FIXED:
            was, given = getattr(known.order, name), getattr(order, name)
            if was != given:
                item = Violation(
                    name, "change", str(was), str(given), "{field} cannot be changed from {limit} to {value}"
                )
                self.problems.append(problem_of(manifest, item, "give another order another name"))

    def _check_expiry(self, manifest: OrderManifest, order: StandardOrder) -> None:
        if order.expire_at_ns is not None and order.expire_at_ns <= self._now_ns:
            limit, text = f"after now, {utc(self._now_ns)}", "{field} {value} must be {limit}"
            item = Violation("expire_at", "instant", limit, utc(order.expire_at_ns), text)
            self.problems.append(problem_of(manifest, item, "write a later instant"))


def action_for(known: OrderIntent, manifest: OrderManifest, order: StandardOrder) -> Action:
    """Whether a manifest changes an intent."""
    same = known.order == order and known == with_record_of(known, manifest)
    return Action.UNCHANGED if same else Action.CONFIGURED


def foreign_to(known: OrderIntent, group_id: str | None) -> str:
    """Why an intent is not the one that a manifest means, of a group or of none; empty when it is."""
    if known.group_id == group_id:
        return ""
    if known.group_id is None:
        return "an order of no group has this name: choose another"
    return f"it belongs to the group {known.group_id}: choose another name"


def belongs_to(known: OrderIntent | None, group_id: str) -> bool:
    """Whether an intent names a group; a store's write may, of one that was never placed."""
    return known is not None and known.group_id == group_id


def group_conflict(state: KernelState, manifest: GroupManifest, known: Group | None) -> str:
    """Why a group can't become what a manifest says, whatever its orders are; empty when it can."""
    if known is None:
        if state.intent(manifest.name) is not None:
            return "an order has this name: choose another"
        stray = [order.name for order in manifest.orders if belongs_to(state.intent(order.name), manifest.name)]
        return f"its orders {', '.join(stray)} are there already: choose other names" if stray else ""
    if known.mode is not manifest.mode:
        return f"its mode is {known.mode} and stays so: choose another name"
    if known.intent_ids != tuple(order.name for order in manifest.orders):
        return f"its orders are {', '.join(known.intent_ids)}, in this order, and stay so: choose another name"
    gone = [name for name in known.intent_ids if state.intent(name) is None]
    return f"its orders {', '.join(gone)} were deleted: choose another name" if gone else ""


def conflict_of(state: KernelState, known: OrderIntent, order: StandardOrder) -> str:
    """Why what is in the log can't become what a manifest says; empty when it can."""
    if known.desired is Desired.CANCELED:
        return "it was canceled, and a canceled intent does not come back: choose another name"
    same = known.order == order
    if has_failed(state, known.intent_id):
        text = refusal(state.record(known.intent_id))
        return f"the venue refused it for good ({text}): change it, or choose another name" if same else ""
    ended = terminal_status(state, known.intent_id)
    if ended is None or (same and (ended is OrdStatus.FILLED or limited_by(state, known.intent_id))):
        return ""
    return f"it has ended, {ended}, and does not come back: choose another name"


def with_record_of(known: OrderIntent, manifest: OrderManifest) -> OrderIntent:
    """An intent with a manifest's owner, labels and policy; all else as it is."""
    metadata = {key: value for key, value in known.metadata.items() if key != "labels"} | labels_metadata(manifest)
    update = {"owner": manifest.owner, "metadata": metadata, "on_unsolicited_cancel": manifest.on_unsolicited_cancel}
    return known.model_copy(update=update)


def labels_metadata(manifest: Manifest) -> dict[str, Any]:
    """What an intent's metadata has of a manifest."""
    return {"labels": dict(manifest.labels)} if manifest.labels else {}


# ----------------------------------------------------------------------------------------------------------------- doing
async def apply(kernel: EventSourcedKernel, steps: Sequence[Step]) -> AsyncIterator[Step]:
    """Do the steps in order, some at a time so that they share commits; each is told once it is durable.

    Raises as `check` does before anything is appended, and then what the first that failed raised, once all that were
    done are told: `ConflictError` when somebody changed an intent since the steps were found. Find them again.
    """
    check(kernel, steps)
    for begin in range(0, len(steps), TOGETHER_MAX):
        batch = steps[begin : begin + TOGETHER_MAX]
        done = await asyncio.gather(*(apply_step(kernel, step) for step in batch), return_exceptions=True)
        for step, problem in zip(batch, done, strict=True):
            if problem is None:
                yield step
        for problem in done:
            if problem is not None:
                raise problem


async def apply_step(kernel: EventSourcedKernel, step: Step) -> None:
    """Do one step."""
    if isinstance(step, GroupStep):
        await apply_group(kernel, step)
    elif step.known is None:
        await kernel.place_order(
            step.order,
            labels_metadata(step.manifest),
            intent_id=step.name,
            owner=step.manifest.owner,
            on_unsolicited_cancel=step.manifest.on_unsolicited_cancel,
            wait="recorded",
        )
    else:
        await configure(kernel, step, step.known)


async def apply_group(kernel: EventSourcedKernel, step: GroupStep) -> None:
    """Create a group whole, or change its orders one after the other."""
    manifest = step.manifest
    if step.known is None:
        await kernel.place_order_group(
            step.group,
            labels_metadata(manifest),
            group_id=manifest.name,
            intent_ids=[member.name for member in step.members],
            owner=manifest.owner,
            on_unsolicited_cancel=manifest.orders[0].on_unsolicited_cancel,
            wait="recorded",
        )
    for member in step.members:
        if member.known is not None:
            await configure(kernel, member, member.known)
        else:  # orders of one group may have policies of their own
            await update_metadata(kernel, member, await kernel.get_order_intent(member.name))


async def configure(kernel: EventSourcedKernel, step: OrderStep, known: OrderIntent) -> None:
    """Give an intent what differs: owner, labels and policy, then terms."""
    await update_metadata(kernel, step, known)
    if step.changes_order:
        await kernel.modify_order(step.name, step.order, wait="recorded", expected_generation=known.generation)


async def update_metadata(kernel: EventSourcedKernel, step: OrderStep, known: OrderIntent) -> None:
    """Give an intent a manifest's owner, labels and policy, where they differ."""
    wanted = with_record_of(known, step.manifest)
    if wanted != known:
        await kernel.intent_store.update_intent(wanted)


# --------------------------------------------------------------------------------------------------------------- waiting
@dataclass(frozen=True, slots=True)
class Answers:
    """What the venue said to what was applied."""

    refused: tuple[ExchangeError, ...] = ()
    late: tuple[str, ...] = field(default=())
    """Intents without an answer in time: the kernel goes on with them."""


async def answers(kernel: EventSourcedKernel, steps: Sequence[Step], *, timeout_s: float) -> Answers:
    """Wait until the venue has all that was applied as it is wanted, or refused it, or the time is over."""
    names = [step.name for step in orders_in(steps) if step.action is not Action.UNCHANGED]
    came = await asyncio.gather(*(holds_in_time(kernel, name, is_answered, timeout_s=timeout_s) for name in names))
    refused = {name: error for name in names if (error := refusal(kernel.state.record(name))) is not None}
    late = tuple(name for name, in_time in zip(names, came, strict=True) if not in_time and name not in refused)
    return Answers(tuple(refused.values()), late)


def is_answered(state: KernelState, intent_id: str) -> bool:
    """Whether nothing is left to be done: what is wanted is at the venue, or ended there, or was refused for good, or its
    group holds it back."""
    return difference(state.effective_intent(intent_id), state.order_state(intent_id)) is None

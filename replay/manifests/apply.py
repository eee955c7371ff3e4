"""Manifests compared with the intents in the log, and applied: declarative, and safe to repeat.

Called by `apply` and `diff -f`, and by strategies that keep orders in files. `steps_for` changes nothing; `apply` performs
the steps, each durable before the next. An intent's id is the manifest's name; intents in no manifest are left alone. If
one document cannot be applied, none is.

Orders are equal if their terms are equal at the symbol's scales. A change of owner, labels or policy alone is `configured`
without a new generation, and nothing is sent. A filled order is `unchanged`; one that ended otherwise cannot be placed
again under its name. A group is created in one append; later its orders change one by one, its mode and members never.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import structs
from msgspec.structs import replace

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
"""Fields that cannot be changed."""
TOGETHER_MAX = 64
"""Manifests applied concurrently."""


class Action(StrEnum):
    """The result of applying a manifest."""

    CREATED = "created"
    CONFIGURED = "configured"
    UNCHANGED = "unchanged"


class OrderStep(msgspec.Struct, frozen=True):
    """One order of a manifest, and what applying it does."""

    manifest: OrderManifest
    order: StandardOrder
    symbol: SymbolMetadata
    known: OrderIntent | None
    """The present intent; None if it is to be created."""
    action: Action
    conflict: str = ""
    """Why it cannot be applied."""

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def line(self) -> str:
        """The result, as in `order/NAME created`."""
        return f"{title(self.manifest)} {self.action}"

    @property
    def changes_order(self) -> bool:
        return self.known is None or self.known.order != self.order


class GroupStep(msgspec.Struct, frozen=True):
    """One group of a manifest, and what applying it does."""

    manifest: GroupManifest
    members: tuple[OrderStep, ...]
    known: Group | None
    """The present group; None if it is to be created."""
    own_conflict: str = ""
    """Why it cannot be applied, apart from its orders."""

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def action(self) -> Action:
        if self.known is None:
            return Action.CREATED
        changed = any(member.action is not Action.UNCHANGED for member in self.members)
        return Action.CONFIGURED if changed else Action.UNCHANGED

    @property
    def line(self) -> str:
        """The result, as in `ordergroup/NAME created`."""
        return f"{title(self.manifest)} {self.action}"

    @property
    def conflict(self) -> str:
        """Why it cannot be applied, its orders included."""
        of_orders = [f"its order {member.name}: {member.conflict}" for member in self.members if member.conflict]
        return self.own_conflict or "; ".join(of_orders)

    @property
    def group(self) -> StandardOrderGroup:
        return StandardOrderGroup(orders=tuple(item.order for item in self.members), mode=self.manifest.mode)


Step = OrderStep | GroupStep


def orders_in(steps: Iterable[Step]) -> list[OrderStep]:
    return [order for step in steps for order in (step.members if isinstance(step, GroupStep) else (step,))]


def title(manifest: Manifest) -> str:
    """A manifest's name as kubectl prints it: `order/NAME`."""
    return f"{'order' if isinstance(manifest, OrderManifest) else 'ordergroup'}/{manifest.name}"


async def load_named(kernel: EventSourcedKernel, manifests: Sequence[Manifest]) -> None:
    """Load the intents and groups that manifests name, evicted ones included."""
    names = [name for item in manifests for name in (item.name, *(order.name for order in orders_of(item)))]
    await ensure_loaded(kernel.log, kernel.state, *names)


def steps_for(
    kernel: EventSourcedKernel, manifests: Sequence[Manifest], *, clock: Clock | None = None
) -> tuple[Step, ...]:
    """Return what applying manifests, whose names `load_named` has loaded, would do, conflicts included.

    Raises `ValidationError` with all orders that do not fit their symbols, `NotReadyError` while the log has no symbols.
    """
    planner = Planner(kernel, (clock or SystemClock()).now_ns())
    found = [planner.step(manifest) for manifest in manifests]
    if planner.problems:
        raise ValidationError("the manifests cannot be applied, nothing was changed", planner.problems)
    return tuple(step for step in found if step is not None)


def check(kernel: EventSourcedKernel, steps: Sequence[Step]) -> None:
    """Raise what prevents applying: `ConflictError` with a line for each conflict, or `ValidationError` for exceeded
    limits."""
    if conflicts := conflicts_of(steps):
        problem = ConflictError("the manifests conflict with the log, nothing was changed")
        for line in conflicts:
            problem.add_note(line)
        raise problem
    check_limits(kernel, steps)


def conflicts_of(steps: Sequence[Step]) -> list[str]:
    return [f"{title(step.manifest)}: {step.conflict}" for step in steps if step.conflict]


def excess_lines(steps: Sequence[Step]) -> list[str]:
    """Lines on groups, created or changed, whose orders can fill for more than the group allows."""
    changed = [
        step
        for step in steps
        if isinstance(step, GroupStep) and not step.conflict and any(item.changes_order for item in step.members)
    ]
    return [
        f"{title(step.manifest)}: up to {trimmed(symbol.quantity_to_decimal(excess))} {symbol.base_asset} more than the"
        " group allows can fill, if its orders fill before the first report arrives"
        for step in changed
        if (excess := group_max_excess(step.group)) > 0
        for symbol in [step.members[0].symbol]
    ]


def check_limits(kernel: EventSourcedKernel, steps: Sequence[Step]) -> None:
    """Raise `ValidationError` if the new and changed orders together exceed a limit."""
    orders = {step.name: step for step in orders_in(steps)}
    new = [step for step in steps if isinstance(step, GroupStep) and step.known is None]
    whole = {member.name for step in new for member in step.members}
    alone = [step for step in orders.values() if step.changes_order and step.name not in whole]
    groups = [(step.manifest.mode, [limited(member) for member in step.members]) for step in new]
    found = kernel.limits_exceeded([limited(step) for step in alone], groups)
    if found:
        problems = [limit_problem(orders[name], item) for name, item in found]
        raise ValidationError("the manifests exceed the pre-trade limits, nothing was changed", problems)


def limited(step: OrderStep) -> tuple[str, StandardOrder, SymbolMetadata]:
    return step.name, step.order, step.symbol


def limit_problem(step: OrderStep, item: Violation) -> Violation:
    in_manifest = replace(item, field=item.field.removeprefix("order."))
    return problem_of(step.manifest, in_manifest, "lower the quantity or cancel another order first")


class Planner:
    """Computes the steps of manifests one after another, and collects their problems."""

    def __init__(self, kernel: EventSourcedKernel, now_ns: int) -> None:
        self._state = kernel.state
        self._now_ns = now_ns
        self._new: Counter[str] = Counter()
        """Orders to be created, by symbol."""
        self.problems: list[Violation] = []

    def step(self, manifest: Manifest) -> Step | None:
        """Return the step of a manifest; None if it has problems."""
        if isinstance(manifest, GroupManifest):
            return self._group_step(manifest)
        found = self._order_step(manifest)
        taken = found is not None and found.known is None and self._state.group(manifest.name) is not None
        return replace(found, conflict="a group has this name: use another name") if found and taken else found

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
        """Return the step of an order; `waits`: it is not open before another order has filled."""
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
            taken = other_group(known, group)
            if known.order != order and not taken:
                self._check_change(manifest, known, order, symbol)
            conflict = taken or conflict_of(self._state, known, order)
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
    same = known.order == order and known == with_record_of(known, manifest)
    return Action.UNCHANGED if same else Action.CONFIGURED


def other_group(known: OrderIntent, group_id: str | None) -> str:
    """Why an intent belongs to another group than the manifest's order; empty if it does not."""
    if known.group_id == group_id:
        return ""
    if known.group_id is None:
        return "an order outside the group has this name: use another name"
    return f"the name belongs to the group {known.group_id}: use another name"


def belongs_to(known: OrderIntent | None, group_id: str) -> bool:
    return known is not None and known.group_id == group_id


def group_conflict(state: KernelState, manifest: GroupManifest, known: Group | None) -> str:
    """Why a group cannot become what a manifest says, apart from its orders; empty if it can."""
    if known is None:
        if state.intent(manifest.name) is not None:
            return "an order has this name: use another name"
        stray = [order.name for order in manifest.orders if belongs_to(state.intent(order.name), manifest.name)]
        return f"its orders {', '.join(stray)} exist already: use other names" if stray else ""
    if known.mode is not manifest.mode:
        return f"its mode is {known.mode} and cannot change: use another name"
    if known.intent_ids != tuple(order.name for order in manifest.orders):
        return f"its orders are {', '.join(known.intent_ids)} and cannot change: use another name"
    gone = [name for name in known.intent_ids if state.intent(name) is None]
    return f"its orders {', '.join(gone)} were deleted: use another name" if gone else ""


def conflict_of(state: KernelState, known: OrderIntent, order: StandardOrder) -> str:
    """Why an intent cannot become what a manifest says; empty if it can."""
    if known.desired is Desired.CANCELED:
        return "the intent was canceled and cannot be reactivated: use another name"
    same = known.order == order
    if has_failed(state, known.intent_id):
        text = refusal(state, known.intent_id)
        return f"the venue rejected it ({text}): change it, or use another name" if same else ""
    ended = terminal_status(state, known.intent_id)
    if ended is None or (same and (ended is OrdStatus.FILLED or limited_by(state, known.intent_id))):
        return ""
    return f"the order is {ended} and cannot be placed again: use another name"


def with_record_of(known: OrderIntent, manifest: OrderManifest) -> OrderIntent:
    metadata = {key: value for key, value in known.metadata.items() if key != "labels"} | labels_metadata(manifest)
    update = {"owner": manifest.owner, "metadata": metadata, "on_unsolicited_cancel": manifest.on_unsolicited_cancel}
    return structs.replace(known, **update)


def labels_metadata(manifest: Manifest) -> dict[str, Any]:
    return {"labels": dict(manifest.labels)} if manifest.labels else {}


async def apply(kernel: EventSourcedKernel, steps: Sequence[Step]) -> AsyncIterator[Step]:
    """Perform the steps in order, several concurrently to share commits; yields each once it is durable.

    Raises as `check` before anything is appended, `ConflictError` if an intent was changed since the steps were made, and
    the error of the first step that failed after the others were yielded.
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
    """Create a group in one append, or change its orders one after another."""
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
        else:  # each order of a group may have its own policy
            await update_metadata(kernel, member, await kernel.get_order_intent(member.name))


async def configure(kernel: EventSourcedKernel, step: OrderStep, known: OrderIntent) -> None:
    await update_metadata(kernel, step, known)
    if step.changes_order:
        await kernel.modify_order(step.name, step.order, wait="recorded", expected_generation=known.generation)


async def update_metadata(kernel: EventSourcedKernel, step: OrderStep, known: OrderIntent) -> None:
    updated = with_record_of(known, step.manifest)
    if updated != known:
        await kernel.intent_store.update_intent(updated)


class Answers(msgspec.Struct, frozen=True):
    """The venue's answers to what was applied."""

    refused: tuple[ExchangeError, ...] = ()
    late: tuple[str, ...] = ()
    """Intents without an answer in time; the kernel keeps trying."""


async def answers(kernel: EventSourcedKernel, steps: Sequence[Step], *, timeout_s: float) -> Answers:
    """Wait until the venue has answered to every applied order, or the time is up."""
    names = [step.name for step in orders_in(steps) if step.action is not Action.UNCHANGED]
    answered = await asyncio.gather(*(holds_in_time(kernel, name, is_answered, timeout_s=timeout_s) for name in names))
    refused = {name: error for name in names if (error := refusal(kernel.state, name)) is not None}
    late = tuple(name for name, in_time in zip(names, answered, strict=True) if not in_time and name not in refused)
    return Answers(tuple(refused.values()), late)


def is_answered(state: KernelState, intent_id: str) -> bool:
    """Return whether nothing is left to do: the order is as desired, ended, rejected, or held by its group."""
    return difference(state.effective_intent(intent_id), state.order_state(intent_id)) is None

"""What `apply` does: manifests held against the intents in the log, then made so. Declarative, and safe to repeat.

Called by the CLI's `apply` and `diff -f`, and by strategies that keep their orders in files. `steps_for` looks and changes
nothing; `apply` does the steps, each durable before the next; cut short, it is simply run again. An intent's id is the
manifest's name, and what is in no manifest is left alone. Nothing is appended when one document can't be applied.

An order counts as the same when its terms are equal at the market's scales. Owner, labels and the policy for unsolicited
cancels are compared too: a change of those alone is `configured` by a store's write, with no new generation and nothing
sent to the venue. An order that is filled stays `unchanged`; one that ended otherwise can't be brought back by its name.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from kernel import EventSourcedKernel
from kernel.clock import Clock, SystemClock
from kernel.commands import refusal
from kernel.errors import ConflictError, ExchangeError, KernelError, NotReadyError, ValidationError, Violation
from kernel.lifecycle import Record, order_state
from kernel.models import Desired, OrderIntent, OrdStatus
from kernel.order_spec import StandardOrder, StandardOrderGroup, SymbolMetadata
from kernel.plan import difference
from replay.decimals import plain
from replay.manifests import (
    GroupManifest,
    Manifest,
    OrderManifest,
    market_problems,
    orders_of,
    problem_of,
    standard_order,
)
from replay.output import utc
from replay.waiting import came_to, ended_as, is_failed

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
class Step:
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


@dataclass(frozen=True, slots=True)
class Steps:
    """One manifest, and its orders' steps."""

    manifest: Manifest
    orders: tuple[Step, ...]
    conflict: str = ""

    @property
    def action(self) -> Action:
        """`created` or `unchanged` where all of its orders are, else `configured`."""
        actions = {step.action for step in self.orders}
        return actions.pop() if len(actions) == 1 else Action.CONFIGURED

    @property
    def title(self) -> str:
        """As kubectl names it, `order/NAME`."""
        return title(self.manifest)

    @property
    def line(self) -> str:
        """What it comes to, as in `order/NAME created`."""
        return f"{self.title} {self.action}"

    @property
    def conflicts(self) -> list[str]:
        """Why it can't be applied, a line each."""
        lines = [f"{self.title}: {self.conflict}"] if self.conflict else []
        return lines + [f"order/{step.name}: {step.conflict}" for step in self.orders if step.conflict]


def title(manifest: Manifest) -> str:
    """A manifest as kubectl names things: `order/NAME`."""
    return f"{'order' if isinstance(manifest, OrderManifest) else 'ordergroup'}/{manifest.name}"


# --------------------------------------------------------------------------------------------------------------- looking
def steps_for(
    kernel: EventSourcedKernel, manifests: Sequence[Manifest], *, clock: Clock | None = None
) -> tuple[Steps, ...]:
    """What applying manifests would come to, conflicts included.

    Raises `ValidationError` with every order that its market does not take, `NotReadyError` when no market is known.
    """
    planner = Planner(kernel, (clock or SystemClock()).now_ns())
    found = tuple(planner.steps(manifest) for manifest in manifests)
    if planner.problems:
        count = len(planner.problems)
        raise ValidationError(f"the manifests can't be applied, nothing was ({count} problems)", planner.problems)
    return found


def check(kernel: EventSourcedKernel, steps: Sequence[Steps]) -> None:
    """Raise what stands in the way of applying: `ConflictError` with a line for each, `ValidationError` for what is beyond
    a pre-trade limit (all orders together), or `KernelError`."""
    if conflicts := [line for item in steps for line in item.conflicts]:
        problem = ConflictError(
            f"the manifests conflict with what is in the log, nothing was applied ({len(conflicts)})"
        )
        for line in conflicts:
            problem.add_note(line)
        raise problem
    if any(isinstance(item.manifest, GroupManifest) and item.action is Action.CREATED for item in steps):
        place_group_of(kernel)
    check_limits(kernel, steps)


def check_limits(kernel: EventSourcedKernel, steps: Sequence[Steps]) -> None:
    """Raise when what would be placed or changed is, all together, beyond a limit."""
    changed = {
        step.name: step
        for item in steps
        for step in item.orders
        if step.known is None or (step.action is Action.CONFIGURED and step.known.order != step.order)
    }
    found = kernel.limits_exceeded([(name, step.order, step.symbol) for name, step in changed.items()])
    if found:
        problems = [limit_problem(changed[name], item) for name, item in found]
        raise ValidationError(f"the manifests are beyond the limits, nothing was applied ({len(found)})", problems)


def limit_problem(step: Step, item: Violation) -> Violation:
    in_manifest = replace(item, field=item.field.removeprefix("order."))
    return problem_of(step.manifest, in_manifest, "ask for less, or cancel something first")


class Planner:
    """Finds the steps of manifests, one after the other."""

    def __init__(self, kernel: EventSourcedKernel, now_ns: int) -> None:
        self._state = kernel.state
        self._now_ns = now_ns
        self._new: Counter[str] = Counter()
        """How many orders will be created, by symbol."""
        self.problems: list[Violation] = []

    def steps(self, manifest: Manifest) -> Steps:
        """The steps of a manifest; orders that can't be are left out, their problems kept."""
        group = manifest if isinstance(manifest, GroupManifest) else None
        found = [self._step(order, group) for order in orders_of(manifest)]
        steps = tuple(step for step in found if step is not None)
        new = sum(step.action is Action.CREATED for step in steps)
        conflict = ""
        if group is not None and 0 < new < len(steps):
            names = ", ".join(step.name for step in steps if step.action is Action.CREATED)
            conflict = f"a group is placed whole, and {names} would be new in it: choose another name for the group"
        return Steps(manifest, steps, conflict)

    def _step(self, manifest: OrderManifest, group: GroupManifest | None) -> Step | None:
        before = len(self.problems)
        symbol = self._symbol(manifest)
        order = self._order(manifest, symbol) if symbol is not None else None
        if symbol is None or order is None:
            return None
        record = self._state.record(manifest.name)
        known = record.intent
        if known is None:
            self._check_new(manifest, order, symbol)
            step = Step(manifest, order, symbol, None, Action.CREATED)
        else:
            action = action_for(known, manifest, order)
            if known.order != order:
                self._check_change(manifest, known, order, symbol)
            step = Step(manifest, order, symbol, known, action, conflict_of(record, known, order, group))
        return step if len(self.problems) == before else None

    def _symbol(self, manifest: OrderManifest) -> SymbolMetadata | None:
        symbol_id = manifest.terms.symbol_id
        if (found := self._state.symbol(symbol_id)) is not None:
            return found
        known = sorted(symbol.symbol_id for symbol in self._state.symbols())
        if not known:
            raise NotReadyError("no market is known yet: start `orderctl run` on this log first")
        shown = ", ".join(known[:10]) + (" …" if len(known) > 10 else "")
        self.problems.append(problem_of(manifest, Violation("symbol_id", "symbol", f"one of {shown}", symbol_id)))
        return None

    def _order(self, manifest: OrderManifest, symbol: SymbolMetadata) -> StandardOrder | None:
        try:
            return standard_order(manifest, symbol)
        except ValidationError as problem:
            self.problems += problem.violations
            return None

    def _check_new(self, manifest: OrderManifest, order: StandardOrder, symbol: SymbolMetadata) -> None:
        open_orders = self._state.open_orders(order.symbol_id) + self._new[order.symbol_id]
        self._new[order.symbol_id] += 1
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
                item = Violation(name, "change", f"not possible, it is {was}", str(given))
                self.problems.append(problem_of(manifest, item, "another order needs another name"))

    def _check_expiry(self, manifest: OrderManifest, order: StandardOrder) -> None:
        if order.expire_at_ns is not None and order.expire_at_ns <= self._now_ns:
            item = Violation("expire_at", "instant", f"after now, {utc(self._now_ns)}", utc(order.expire_at_ns))
            self.problems.append(problem_of(manifest, item, "write a later one"))


def action_for(known: OrderIntent, manifest: OrderManifest, order: StandardOrder) -> Action:
    """Whether a manifest changes an intent."""
    same = known.order == order and known == with_record_of(known, manifest)
    return Action.UNCHANGED if same else Action.CONFIGURED


def conflict_of(record: Record, known: OrderIntent, order: StandardOrder, group: GroupManifest | None) -> str:
    """Why what is in the log can't become what a manifest says; empty when it can."""
    if known.desired is Desired.CANCELED:
        return "it was canceled, and a canceled intent does not come back: choose another name"
    if group is None and known.group_id is not None:
        return f"it belongs to the group {known.group_id}: apply it as a part of that"
    if group is not None and known.metadata.get("group", group_mark(group)) != group_mark(group):
        return f"it belongs to another group, or its group has another mode: {known.metadata['group']}"
    same = known.order == order
    if is_failed(record):
        text = refusal(record)
        return f"the venue refused it for good ({text}): change it, or choose another name" if same else ""
    ended = ended_as(record)
    if ended is None or (same and ended is OrdStatus.FILLED):
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


def group_mark(group: GroupManifest) -> dict[str, Any]:
    """What a member's metadata has of its group's manifest."""
    return {"name": group.name, "mode": group.mode.value}


# ----------------------------------------------------------------------------------------------------------------- doing
async def apply(kernel: EventSourcedKernel, steps: Sequence[Steps]) -> AsyncIterator[Steps]:
    """Do the steps in order, some at a time so that they share commits; each is told once it is durable.

    Raises as `check` does before anything is appended, and then what the first that failed raised, once all that were
    done are told: `ConflictError` when somebody changed an intent since the steps were found. Find them again.
    """
    check(kernel, steps)
    for begin in range(0, len(steps), TOGETHER_MAX):
        batch = steps[begin : begin + TOGETHER_MAX]
        done = await asyncio.gather(*(apply_one(kernel, item) for item in batch), return_exceptions=True)
        for item, problem in zip(batch, done, strict=True):
            if problem is None:
                yield item
        for problem in done:
            if problem is not None:
                raise problem


async def apply_one(kernel: EventSourcedKernel, steps: Steps) -> None:
    """Do one manifest's steps."""
    if isinstance(steps.manifest, GroupManifest) and steps.action is Action.CREATED:
        await place_group(kernel, steps.manifest, [step.order for step in steps.orders])
        return
    for step in steps.orders:
        await apply_order(kernel, step)


async def apply_order(kernel: EventSourcedKernel, step: Step) -> None:
    """Do one order's step."""
    manifest = step.manifest
    if step.known is None:
        await kernel.place_order(
            step.order,
            labels_metadata(manifest),
            intent_id=manifest.name,
            owner=manifest.owner,
            on_unsolicited_cancel=manifest.on_unsolicited_cancel,
            wait="recorded",
        )
    elif step.action is Action.CONFIGURED:
        known = with_record_of(step.known, manifest)
        if known != step.known:
            await kernel.intent_store.update_intent(known)
        if known.order != step.order:
            await change_order(kernel, known, step.order)


async def change_order(kernel: EventSourcedKernel, known: OrderIntent, order: StandardOrder) -> None:
    """Want other terms of an intent; durable on return. The one place that does it."""
    await kernel.modify_order(known.intent_id, order, wait="recorded", expected_generation=known.generation)


async def place_group(kernel: EventSourcedKernel, group: GroupManifest, orders: Sequence[StandardOrder]) -> None:
    """Want the orders of a group; durable on return. The one place that does it."""
    await place_group_of(kernel)(
        StandardOrderGroup(orders=tuple(orders), mode=group.mode),
        intent_ids=[order.name for order in group.orders],
        owner=group.owner,
        metadata={**labels_metadata(group), "group": group_mark(group)},
    )


def place_group_of(kernel: EventSourcedKernel) -> Callable[..., Any]:
    """The kernel's command for groups; `KernelError` where it has none."""
    found: Callable[..., Any] | None = getattr(kernel, "place_order_group", None)
    if found is None:
        raise KernelError("order groups are not built yet: apply their orders one by one, nothing was applied")
    return found


# --------------------------------------------------------------------------------------------------------------- waiting
@dataclass(frozen=True, slots=True)
class Answers:
    """What the venue said to what was applied."""

    refused: tuple[ExchangeError, ...] = ()
    late: tuple[str, ...] = field(default=())
    """Intents without an answer in time: the kernel goes on with them."""


async def answers(kernel: EventSourcedKernel, steps: Sequence[Steps], *, timeout_s: float) -> Answers:
    """Wait until the venue has all that was applied as it is wanted, or refused it, or the time is over."""
    names = [step.name for item in steps for step in item.orders if step.action is not Action.UNCHANGED]
    came = await asyncio.gather(*(came_to(kernel, name, is_answered, timeout_s=timeout_s) for name in names))
    refused = {name: error for name in names if (error := refusal(kernel.state.record(name))) is not None}
    late = tuple(name for name, in_time in zip(names, came, strict=True) if not in_time and name not in refused)
    return Answers(tuple(refused.values()), late)


def is_answered(record: Record) -> bool:
    """Whether nothing is left to be done: what is wanted is at the venue, or ended there, or was refused for good."""
    return difference(record.intent, order_state(record)) is None


# --------------------------------------------------------------------------------------------------------------- showing
def manifest_data(intent: OrderIntent, symbol: SymbolMetadata | None) -> dict[str, Any]:
    """An intent in a manifest's form, its decimals at the market's scale: what two sides are compared by."""
    metadata: dict[str, Any] = {"name": intent.intent_id}
    if intent.owner:
        metadata["owner"] = intent.owner
    if labels := intent.metadata.get("labels"):
        metadata["labels"] = labels
    return {"kind": "Order", "metadata": metadata, "spec": spec_data(intent, symbol)}


def spec_data(intent: OrderIntent, symbol: SymbolMetadata | None) -> dict[str, Any]:
    """The fields of a manifest's spec that are set."""
    order = intent.order
    spec: dict[str, Any] = {
        "symbol_id": order.symbol_id,
        "side": order.side.value,
        "order_type": order.order_type.value,
    }
    for name in ("quantity", "price", "stop_price", "display_quantity"):
        value = getattr(order, name)
        if value is not None and symbol is not None:
            to_decimal = symbol.quantity_to_decimal if "quantity" in name else symbol.price_to_decimal
            spec[name] = plain(to_decimal(value))
        elif value is not None:
            spec[name] = value
    spec["time_in_force"] = order.time_in_force.value
    if order.expire_at_ns is not None:
        spec["expire_at"] = instant_text(order.expire_at_ns)
    spec |= {name: True for name in ("post_only", "reduce_only") if getattr(order, name)}
    spec["on_unsolicited_cancel"] = intent.on_unsolicited_cancel.value
    return spec


def instant_text(instant_ns: int) -> str:
    """An instant as RFC 3339, to the nanosecond."""
    second, fraction = utc(instant_ns).partition(".")[0], instant_ns % 10**9
    return f"{second}.{fraction:09d}Z" if fraction else f"{second}Z"

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
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from kernel import EventSourcedKernel
from kernel.clock import Clock, SystemClock
from kernel.commands import refusal
from kernel.errors import ConflictError, ExchangeError, KernelError, NotReadyError, ValidationError, Violation
from kernel.lifecycle import Record, order_state
from kernel.models import Desired, OrderIntent, OrdStatus
from kernel.order_spec import StandardOrder, SymbolMetadata
from kernel.plan import difference
from replay.decimals import plain
from replay.manifests import (
    GroupManifest,
    Manifest,
    OrderManifest,
    market_problems,
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

    @property
    def line(self) -> str:
        """What it comes to, as in `order/NAME created`."""
        return f"{title(self.manifest)} {self.action}"

    @property
    def changes_order(self) -> bool:
        """Whether an order is placed or gets other terms."""
        return self.known is None or self.known.order != self.order


def title(manifest: Manifest) -> str:
    """A manifest as kubectl names things: `order/NAME`."""
    return f"{'order' if isinstance(manifest, OrderManifest) else 'ordergroup'}/{manifest.name}"


# --------------------------------------------------------------------------------------------------------------- looking
def steps_for(
    kernel: EventSourcedKernel, manifests: Sequence[Manifest], *, clock: Clock | None = None
) -> tuple[Step, ...]:
    """What applying manifests would come to, conflicts included.

    Raises `ValidationError` with every order that its market does not take, `NotReadyError` when no market is known, and
    `KernelError` for a group: the kernel works none yet, and its orders without what binds them are another wish.
    """
    if groups := [manifest for manifest in manifests if isinstance(manifest, GroupManifest)]:
        raise KernelError(f"{title(groups[0])}: order groups are not built yet, nothing was applied")
    planner = Planner(kernel, (clock or SystemClock()).now_ns())
    found = [planner.step(manifest) for manifest in manifests if isinstance(manifest, OrderManifest)]
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


def check_limits(kernel: EventSourcedKernel, steps: Sequence[Step]) -> None:
    """Raise when what would be placed or changed is, all together, beyond a limit."""
    changed = {step.name: step for step in steps if step.changes_order}
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

    def step(self, manifest: OrderManifest) -> Step | None:
        """The step of a manifest; none for an order that can't be, whose problems are kept."""
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
            step = Step(manifest, order, symbol, known, action, conflict_of(record, known, order))
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


def conflict_of(record: Record, known: OrderIntent, order: StandardOrder) -> str:
    """Why what is in the log can't become what a manifest says; empty when it can."""
    if known.desired is Desired.CANCELED:
        return "it was canceled, and a canceled intent does not come back: choose another name"
    if known.group_id is not None:
        return f"it belongs to the group {known.group_id}: choose another name"
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


# ----------------------------------------------------------------------------------------------------------------- doing
async def apply(kernel: EventSourcedKernel, steps: Sequence[Step]) -> AsyncIterator[Step]:
    """Do the steps in order, some at a time so that they share commits; each is told once it is durable.

    Raises as `check` does before anything is appended, and then what the first that failed raised, once all that were
    done are told: `ConflictError` when somebody changed an intent since the steps were found. Find them again.
    """
    check(kernel, steps)
    for begin in range(0, len(steps), TOGETHER_MAX):
        batch = steps[begin : begin + TOGETHER_MAX]
        done = await asyncio.gather(*(apply_order(kernel, step) for step in batch), return_exceptions=True)
        for step, problem in zip(batch, done, strict=True):
            if problem is None:
                yield step
        for problem in done:
            if problem is not None:
                raise problem


async def apply_order(kernel: EventSourcedKernel, step: Step) -> None:
    """Do one step."""
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
        return
    known = with_record_of(step.known, manifest)
    if known != step.known:
        await kernel.intent_store.update_intent(known)
    if step.changes_order:
        await kernel.modify_order(manifest.name, step.order, wait="recorded", expected_generation=known.generation)


# --------------------------------------------------------------------------------------------------------------- waiting
@dataclass(frozen=True, slots=True)
class Answers:
    """What the venue said to what was applied."""

    refused: tuple[ExchangeError, ...] = ()
    late: tuple[str, ...] = field(default=())
    """Intents without an answer in time: the kernel goes on with them."""


async def answers(kernel: EventSourcedKernel, steps: Sequence[Step], *, timeout_s: float) -> Answers:
    """Wait until the venue has all that was applied as it is wanted, or refused it, or the time is over."""
    names = [step.name for step in steps if step.action is not Action.UNCHANGED]
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

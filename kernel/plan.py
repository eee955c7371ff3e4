"""The plan for one intent: how it differs from its observed order, and the next action. Pure.

The diff projection calls `difference` to feed keys; the decision of a reconciler run calls `plan` for the one action. The
rules are those of the protocol between log and wire; H8, H13, … in comments name its traces.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec
from msgspec import structs

from kernel.actions import ActionKind
from kernel.errors import Violation
from kernel.lifecycle.disagreement import NS_PER_S
from kernel.lifecycle.record import FIXED_TERMS, same_price, stops, venue_orders_of
from kernel.models import (
    UNRESOLVED,
    Attempt,
    AttemptKind,
    AttemptOutcome,
    Desired,
    EarlierOrders,
    OrderIntent,
    OrderState,
    VenueOrder,
)
from kernel.order_spec import OcoMode, Side, StandardOrder, SymbolMetadata, SymbolStatus, expiry_violations
from kernel.venues.base import AmendDialect, VenueCapabilities


class Difference(msgspec.Struct, frozen=True):
    """One difference between an intent and its order."""

    kind: ActionKind
    """Kind of the action that removes it."""
    text: str


class Nothing(msgspec.Struct, frozen=True):
    """Do nothing: intent and order agree, or nothing may be done."""

    label: ClassVar[str] = "nothing"
    reason: str


class Resolve(msgspec.Struct, frozen=True):
    """Find evidence for the outcome of this attempt."""

    kind: ClassVar[ActionKind] = ActionKind.RESOLVE
    label: ClassVar[str] = "settle"
    reason: ClassVar[str] = ""
    attempt: Attempt


class Ask(msgspec.Struct, frozen=True):
    """Query the status of this order."""

    kind: ClassVar[ActionKind] = ActionKind.ASK
    label: ClassVar[str] = "ask"
    order: VenueOrder
    reason: str
    stale: bool = False
    """True if the only reason is the age of the last confirmation: nothing waits for the answer."""


class Cancel(msgspec.Struct, frozen=True):
    """Cancel this order."""

    kind: ClassVar[ActionKind] = ActionKind.CANCEL
    label: ClassVar[str] = "cancel"
    order: VenueOrder
    reason: str


class Modify(msgspec.Struct, frozen=True):
    """Change this order to new terms; `terms.quantity` is its total, filled part included."""

    kind: ClassVar[ActionKind] = ActionKind.MODIFY
    label: ClassVar[str] = "amend"
    reason: ClassVar[str] = ""
    order: VenueOrder
    terms: StandardOrder


class Submit(msgspec.Struct, frozen=True):
    """Place this order: the remaining quantity of the intent."""

    kind: ClassVar[ActionKind] = ActionKind.SUBMIT
    label: ClassVar[str] = "submit"
    reason: ClassVar[str] = ""
    order: StandardOrder


class RejectLocally(msgspec.Struct, frozen=True):
    """Reject the rest locally, as the symbol does not take it: the generation ends, nothing is sent."""

    label: ClassVar[str] = "refuse"
    reason: ClassVar[str] = ""
    order: StandardOrder
    violations: tuple[Violation, ...]
    working: VenueOrder | None = None
    """The working order that keeps its old terms, if the change was rejected."""

    @property
    def kind(self) -> ActionKind:
        """Kind of the action that it replaces."""
        return ActionKind.SUBMIT if self.working is None else ActionKind.MODIFY


class TakeLess(msgspec.Struct, frozen=True):
    """Let this total count instead of the intent's: the symbol takes no more of the rest, or its date has passed."""

    label: ClassVar[str] = "take less"
    kind: ClassVar[ActionKind] = ActionKind.SUBMIT
    quantity: int
    reason: str


class WaitUntil(msgspec.Struct, frozen=True):
    """Do nothing before this instant (None: until something changes)."""

    label: ClassVar[str] = "wait"
    until_ns: int | None
    reason: str


Action = Nothing | Resolve | Ask | Cancel | Modify | Submit | RejectLocally | TakeLess | WaitUntil


def difference(intent: OrderIntent | None, order: OrderState | None) -> Difference | None:
    """Return how an intent and its observed order differ; None if nothing is to be done."""
    if order is None:
        never = intent is not None and is_wanted(intent, order) and intent.order.quantity > 0
        return Difference(ActionKind.SUBMIT, "never sent") if never else None
    live = live_orders(order)
    if any(attempt.outcome in UNRESOLVED for attempt in order.attempts):
        if is_canceled_first(intent, order, live):
            return Difference(ActionKind.CANCEL, "the order is canceled before its attempts are resolved")
        return Difference(ActionKind.RESOLVE, "an attempt is unresolved")
    if order_in_doubt(order) is not None:
        return Difference(ActionKind.ASK, "a report that no intent owns may be about an order")
    if (surplus := surplus_order(intent, order, live)) is not None:
        surplus_id = surplus.exchange_order_id or surplus.client_order_id
        return Difference(ActionKind.CANCEL, f"venue order {surplus_id} should not be open")
    if open_question(order) is not None:
        return Difference(ActionKind.ASK, "the end, the final quantity or the fills of an order are not known")
    if intent is None or not is_wanted(intent, order):
        return None
    if live:
        same = terms_agree(intent, order, live[0])
        return None if same else Difference(ActionKind.MODIFY, "the working order has other terms than the intent")
    left = remainder(intent, order)
    return Difference(ActionKind.SUBMIT, f"{left} of the intent is not working") if left > 0 else None


def plan(
    intent: OrderIntent | None,
    order: OrderState | None,
    *,
    symbol: SymbolMetadata | None,
    now_ns: int,
    amend: AmendDialect = AmendDialect.NONE,
) -> Action:
    """Return the next action for an intent: at most one side effect at the venue.

    Unresolved attempts come first, then surplus orders, open questions, changes, and last the submit of the rest.
    Failures delay submits and changes; failed cancels of an order delay only its next cancel. `intent` is the effective
    intent, as limited by its group.
    """
    found = difference(intent, order)
    if found is None:
        return Nothing("intent and order agree")
    if order is not None and (action := plan_for_order(found.kind, intent, order)) is not None:
        return after_failed_cancels(action, order, now_ns=now_ns)
    if intent is None:
        return Nothing("there is no intent")
    if order is not None and found.kind is ActionKind.MODIFY:
        change = plan_change(intent, order, symbol=symbol, now_ns=now_ns, amend=amend)
        return after_failed_cancels(change, order, now_ns=now_ns)
    return plan_submit(intent, order, symbol=symbol, now_ns=now_ns)


def after_failed_cancels(action: Action, order: OrderState, *, now_ns: int) -> Action:
    """Return the action, or the wait for it if it is a cancel and earlier ones of its order had no effect."""
    until_ns = action.order.cancel_not_before_ns if isinstance(action, Cancel) else None
    if until_ns is None or not backs_off(order, until_ns, now_ns=now_ns):
        return action
    return WaitUntil(until_ns, "backing off after cancels without effect")


def backs_off(order: OrderState, until_ns: int, *, now_ns: int) -> bool:
    """Return whether a delay lasts. One of before the clock was set back ends: its instant may be hours away."""
    is_set_back = bool(order.attempts) and now_ns < order.attempts[-1].stamp_ns - NS_PER_S
    return now_ns < until_ns and not is_set_back


def is_canceled_first(intent: OrderIntent | None, order: OrderState, live: list[VenueOrder]) -> bool:
    """Return whether to cancel a live order before its attempts are resolved.

    That is so if only amends are unresolved, and the intent is canceled or nothing can prove that an amend did not arrive.
    An amend that finds the order closed is harmless.
    """
    unresolved = [attempt for attempt in order.attempts if attempt.outcome in UNRESOLVED]
    if not live or any(item.kind is not AttemptKind.AMEND or item.new_order for item in unresolved):
        return False
    unwanted = intent is not None and intent.desired is Desired.CANCELED
    endless = any(item.outcome is AttemptOutcome.UNKNOWN and item.absent_after_ns is None for item in unresolved)
    return unwanted or endless


def plan_for_order(kind: ActionKind, intent: OrderIntent | None, order: OrderState) -> Action | None:
    """Return the action for what is at the venue; None for a change or a submit."""
    live = live_orders(order)
    if kind is ActionKind.RESOLVE:
        unresolved = [attempt for attempt in order.attempts if attempt.outcome in UNRESOLVED]
        # A cancel may be the only way to resolve a change.
        return Resolve(next((item for item in unresolved if item.kind is AttemptKind.CANCEL), unresolved[0]))
    if kind is ActionKind.CANCEL:
        surplus = surplus_order(intent, order, live) or live[-1]
        return Cancel(surplus, "it should not be open" if len(live) == 1 else "one of several live orders (H8)")
    if kind is ActionKind.ASK and (item := order_in_doubt(order)) is not None:
        return Ask(item, "a report that no intent owns may be about it (H25)")
    if kind is ActionKind.ASK and (question := open_question(order)) is not None:
        return Ask(question, "its end, its final quantity or its fills are not known (H13, H21)")
    return None


def amend_dialect(capabilities: VenueCapabilities) -> AmendDialect:
    """Return how working orders are changed: cancel and submit where an unanswered replace could arrive at any time."""
    endless = capabilities.validity_window_ns is None and capabilities.amend is AmendDialect.CANCEL_REPLACE
    return AmendDialect.NONE if endless else capabilities.amend


def is_venue_managed(capabilities: VenueCapabilities, mode: OcoMode) -> bool:
    """Return whether the venue manages a group itself.

    Not without a validity window: an unanswered request could neither be ruled out nor be sent again. Not for
    ONE_TRIGGERS_OTHER: the quantities of a released order do not show whether it can still grow.
    """
    able = mode in capabilities.native_groups and mode is not OcoMode.ONE_TRIGGERS_OTHER
    return able and capabilities.validity_window_ns is not None


def plan_change(
    intent: OrderIntent,
    order: OrderState,
    *,
    symbol: SymbolMetadata | None,
    now_ns: int,
    amend: AmendDialect,
) -> Action:
    """Return the action for an order that works with other terms than its intent.

    Terms that the symbol does not take are rejected while the old order goes on working.
    """
    (working,) = live_orders(order)
    step = plan_submit(intent, order, symbol=symbol, now_ns=now_ns)
    taken = is_shrunk_by_group(intent, order, working)
    if taken and (not isinstance(step, Submit) or was_refused(intent, order, working)):
        return Cancel(working, "its group reduced it and it cannot be changed: cancel, then place the rest")
    if isinstance(step, RejectLocally):
        return RejectLocally(step.order, step.violations, working)
    if not isinstance(step, Submit):
        return step
    if amend is AmendDialect.NONE or not is_modifiable(intent, order, in_place=amend is AmendDialect.IN_PLACE):
        return Cancel(working, "the venue cannot change these terms: cancel, then place the rest")
    total = own_quantity(intent, order, working)
    # An exit that may not grow goes on working: without it nothing would be protected.
    if was_refused(intent, order, working) and not (intent.is_exit and total > working.quantity):
        return Cancel(working, "the venue rejected the change: cancel, then place the rest")
    total += working.carried_qty or 0
    return Modify(working, rest_of(intent.order, total))


def is_shrunk_by_group(intent: OrderIntent, order: OrderState, working: VenueOrder) -> bool:
    """Return whether fills of siblings or other orders reduced it: that does not wait, it could overfill."""
    same_generation = working.generation == intent.generation
    return same_generation and intent.order.quantity < working.quantity + filled_by_others(order, working)


def was_refused(intent: OrderIntent, order: OrderState, working: VenueOrder) -> bool:
    """Return whether the venue rejected the newest attempt, an amend that only followed the group.

    Without a group, a rejection that does not end the generation may be repeated: the amend is due again later.
    """
    last = order.attempts[-1] if order.attempts and intent.group_id is not None else None
    if last is None or last.kind is not AttemptKind.AMEND or last.outcome is not AttemptOutcome.REJECTED:
        return False
    return last.generation == working.generation == intent.generation


def is_modifiable(intent: OrderIntent, order: OrderState, *, in_place: bool) -> bool:
    """Return whether an amend can change what differs: price, quantity; a replace also stop price and expiry."""
    fixed = FIXED_TERMS if in_place else FIXED_TERMS - REPLACEABLE_TERMS
    working, terms = order.status.order, intent.order
    same = all(getattr(working, name) == getattr(terms, name) for name in fixed)
    return same and (terms.display_quantity == working.display_quantity or not in_place)


def plan_submit(intent: OrderIntent, order: OrderState | None, *, symbol: SymbolMetadata | None, now_ns: int) -> Action:
    if order is not None and backs_off(order, order.not_before_ns, now_ns=now_ns):
        return WaitUntil(order.not_before_ns, f"backing off after {order.failures} failures")
    if symbol is None:
        return WaitUntil(None, f"symbol {intent.order.symbol_id} is not known yet")
    if symbol.status is not SymbolStatus.TRADING:
        return WaitUntil(None, f"symbol {symbol.symbol_id} is {symbol.status}")
    left = rest_of(intent.order, remainder(intent, order))
    expired = expiry_violations(intent.order, now_ns=now_ns)
    violations = expired or symbol.violations(left)
    text = "; ".join(map(str, violations))
    if not violations:
        return Submit(left)
    if intent.is_exit and not expired:
        return WaitUntil(None, f"the exit cannot be placed yet: {text}")
    filled = intent.order.quantity - left.quantity
    if filled and not expired and all(is_mended_by_more(item, left, symbol) for item in violations):
        return TakeLess(filled + largest_taken(left, symbol), text)
    if expired and order is not None and order.venue_orders:
        return TakeLess(filled, text)
    return RejectLocally(left, tuple(violations))


def is_mended_by_more(violation: Violation, order: StandardOrder, symbol: SymbolMetadata) -> bool:
    """Return whether a larger quantity could satisfy the constraint."""
    too_small = violation.constraint == "quantity range" and order.quantity < symbol.min_quantity
    return too_small or violation.constraint in ("lot_size", "min_notional")


def largest_taken(order: StandardOrder, symbol: SymbolMetadata) -> int:
    """Return the largest quantity, rounded down to the lot, that the symbol takes of an order; 0 if it takes none."""
    quantity = order.quantity - order.quantity % (symbol.lot_size or 1)
    return quantity if quantity and not symbol.violations(rest_of(order, quantity)) else 0


def rest_of(order: StandardOrder, quantity: int) -> StandardOrder:
    if quantity == order.quantity:
        return order
    return structs.replace(order, quantity=quantity, display_quantity=displayed(order, quantity))


def is_wanted(intent: OrderIntent, order: OrderState | None) -> bool:
    """Return whether an order should work: not canceled, not rejected for good, not ended by the venue or its terms."""
    if intent.desired is Desired.CANCELED:
        return False
    if order is None:
        return True
    stays = not intent.is_exit or any(0 < item.generation < intent.generation for item in live_orders(order))
    if stays and order.failed_generation == intent.generation:
        return False  # as `is_refused`
    return not any(stops(item, intent) for item in venue_orders_of(order))


def may_resend(intent: OrderIntent | None, order: OrderState) -> bool:
    """Return whether an unresolved submit may be sent again to a venue that takes each client order id once."""
    if intent is None or not is_wanted(intent, order) or live_orders(order) or open_question(order) is not None:
        return False
    return remainder(intent, order) > 0


def live_orders(order: OrderState) -> list[VenueOrder]:
    """Return the orders that can still fill, oldest first."""
    return [item for item in venue_orders_of(order) if item.live]


def surplus_order(intent: OrderIntent | None, order: OrderState, live: list[VenueOrder]) -> VenueOrder | None:
    """Return the live order to cancel next: the newest of several (H8), any without an intent; None if there is none."""
    if not live:
        return None
    if intent is None:
        return live[-1] if order.attempts else None
    if len(live) > 1 or remainder(intent, order) <= 0:
        return live[-1]
    return None if is_wanted(intent, order) or outlives_refusal(intent, order, live[0]) else live[-1]


def outlives_refusal(intent: OrderIntent, order: OrderState, working: VenueOrder) -> bool:
    """Return whether a working order stays although its generation has failed.

    It does if it is older than the change that failed, or if its terms are within those of the intent.
    """
    refused = intent.desired is Desired.WORKING and order.failed_generation == intent.generation
    older = 0 < working.generation < intent.generation
    return refused and not working.late and (older or is_within(intent, order, working))


def is_within(intent: OrderIntent, order: OrderState, working: VenueOrder) -> bool:
    """Return whether a working order can fill neither more than the intent wants nor at a worse price."""
    limit, price = intent.order.price, working.price
    buys = intent.order.side is Side.BUY
    better = same_price(price, limit) or (price is not None and limit is not None and (price < limit) is buys)
    return better and bool(working.other_terms) and fits_quantity(intent, order, working)


def fits_quantity(intent: OrderIntent, order: OrderState, working: VenueOrder) -> bool:
    """Return whether a working order and the fills of others do not exceed the intent's quantity."""
    return working.quantity + filled_by_others(order, working) <= intent.order.quantity


NO_EARLIER = EarlierOrders(count=0, cum_qty=0)


def remainder(intent: OrderIntent, order: OrderState | None) -> int:
    """Return the intent's unfilled quantity, counting of each venue order the larger of final total and fills (H13)."""
    if order is None:
        return intent.order.quantity
    orders, earlier = venue_orders_of(order), order.earlier_orders or NO_EARLIER
    filled = sum((max(item.final_cum_qty or 0, item.cum_qty) for item in orders), earlier.cum_qty)
    left = intent.order.quantity - filled
    reduced = sum((item.reduced_qty or 0 for item in orders if not item.live), earlier.reduced_qty or 0)
    return 0 if 0 < left <= reduced else left


def may_accept(intent: OrderIntent, order: OrderState, action: Action) -> bool:
    """Return whether the terms that work may be taken instead of the change that is planned: never a larger quantity."""
    live = live_orders(order)
    if not isinstance(action, Modify | Cancel | RejectLocally) or len(live) != 1 or not live[0].other_terms:
        return False
    return (
        is_wanted(intent, order) and live[0].generation == intent.generation and fits_quantity(intent, order, live[0])
    )


def order_in_doubt(order: OrderState) -> VenueOrder | None:
    return next((item for item in venue_orders_of(order) if item.in_doubt), None)


def open_question(order: OrderState) -> VenueOrder | None:
    """Return an ended order whose end is not confirmed or whose final quantity is not known, or one with unknown fills."""
    for item in venue_orders_of(order):
        if item.in_doubt or (not item.live and item.final_cum_qty is None) or item.inferred_qty > 0:
            return item
    return None


def filled_by_others(order: OrderState, working: VenueOrder) -> int:
    earlier = order.earlier_orders or NO_EARLIER
    return sum((item.cum_qty for item in venue_orders_of(order) if item is not working), earlier.cum_qty)


def own_quantity(intent: OrderIntent, order: OrderState, live: VenueOrder) -> int:
    """Return the quantity that a live order should have: the intent's, less what its other orders filled.

    The venue's is right for a reduce-only order that it has reduced with the position.
    """
    wanted = intent.order.quantity - filled_by_others(order, live)
    return live.quantity if 0 <= wanted - live.quantity <= (live.reduced_qty or 0) else wanted


REPLACEABLE_TERMS = frozenset({"stop_price", "expire_at_ns"})
"""Fixed terms that a replacing order may change."""


def terms_agree(intent: OrderIntent, order: OrderState, live: VenueOrder) -> bool:
    """Return whether the working order has the intent's terms, counting what other orders filled before it."""
    if own_quantity(intent, order, live) != live.quantity:
        return False
    working, terms = order.status.order, intent.order
    if not same_price(live.price, terms.price):
        return False
    if displayed(working, live.quantity) != displayed(terms, live.quantity):
        return False
    return all(getattr(working, name) == getattr(terms, name) for name in FIXED_TERMS)


def displayed(order: StandardOrder, quantity: int) -> int | None:
    return None if order.display_quantity is None else min(order.display_quantity, quantity)

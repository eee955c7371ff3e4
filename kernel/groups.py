"""Orders that depend on each other: what a group lets each of its members be. Pure.

Used by the state (which folds a `Group` for each), by the commands (which check one before it is recorded), and by the
writer (which records on the group's stream that a member's fills changed). The rules are one function,
`permitted_quantity`: how much of an order its siblings' fills leave to it. Everything else follows: `plan` is given the
intent as its group lets it be, so that a group that shrinks a member is, to it, another wish, and needs no action of
its own.

A group that the kernel works lets both legs stand at the venue: both can fill before the first report of either is here.
What they may come to beyond what is wanted is bounded, and told beforehand: `max_excess`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from kernel.errors import Violation
from kernel.order_spec import OcoMode, OrderType, Side, StandardOrderGroup

MEMBERS_MAX = 50
"""Largest number of orders in one group: each fill of one is weighed against all of them."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group as the log has it."""

    group_id: str
    mode: OcoMode
    intent_ids: tuple[str, ...]
    """Its members, in order; of a ONE_TRIGGERS_OTHER group the first one releases the others."""
    native: bool | None = None
    """Whether the venue works it; None while nothing of it was sent."""
    client_id: str | None = None
    """The id that the venue was given last for the group as a whole."""
    version: int = 0
    """Version of its stream: it goes on with each change of a member's fills (H19)."""
    filled: Mapping[str, int] = field(default_factory=dict)
    """What each member has filled, net of busts; none: nothing."""
    first: str | None = None
    """The member whose fill was recorded first. A bust of that fill does not undo it."""
    excess_accepted: int = 0
    """How much more has filled than it allows when an operator last said that this was dealt with."""

    @property
    def parent(self) -> str | None:
        """The member whose fills release the others; None where there is none."""
        return self.intent_ids[0] if self.mode is OcoMode.ONE_TRIGGERS_OTHER else None

    def others_filled(self, intent_id: str) -> int:
        """What the siblings of a member have filled; a leader is nobody's sibling."""
        return sum(quantity for other, quantity in self.filled.items() if other not in (intent_id, self.parent))

    def with_fill(self, intent_id: str, cum_qty: int) -> Group:
        """After a member's filled quantity changed."""
        first = intent_id if self.first is None and cum_qty > 0 else self.first
        return replace(self, filled={**self.filled, intent_id: cum_qty}, first=first)


def permitted_quantity(group: Group, intent_id: str, wanted: int) -> int:
    """The total that a member may be, filled part included, of the total that is wanted of it."""
    filled = min(wanted, group.filled.get(intent_id, 0))
    match group.mode:
        case OcoMode.ONE_CANCELS_OTHER if group.first not in (None, intent_id):
            return filled
        case OcoMode.ONE_UPDATES_OTHER:
            return max(filled, wanted - group.others_filled(intent_id))
        case OcoMode.ONE_TRIGGERS_OTHER if intent_id != group.parent:
            released = min(wanted, group.filled.get(group.intent_ids[0], 0))
            return max(filled, released - group.others_filled(intent_id))
    return wanted


def excess(group: Group, wanted: Mapping[str, int]) -> int:
    """How much more has filled than the group allows; `wanted` has the total that is wanted of each member."""
    filled = group.filled
    match group.mode:
        case OcoMode.ONE_CANCELS_OTHER:
            return sum(quantity for other, quantity in filled.items() if other != group.first)
        case OcoMode.ONE_UPDATES_OTHER:
            return max(0, sum(filled.values()) - max([0, *wanted.values()]))
        case OcoMode.ONE_TRIGGERS_OTHER:
            return max(0, group.others_filled("") - filled.get(group.intent_ids[0], 0))
    return 0


def max_excess(mode: OcoMode, quantities: Sequence[int]) -> int:
    """The most that a group worked by the kernel can come to beyond what is wanted, in any race: all its legs fill before
    the first report of one is here (PROTOCOL.md, H19). At the quantity scale of its symbol."""
    if mode is OcoMode.ONE_CANCELS_OTHER:
        return sum(quantities) - min(quantities)
    if mode is OcoMode.ONE_UPDATES_OTHER:
        return sum(quantities) - max(quantities)
    if mode is OcoMode.ONE_TRIGGERS_OTHER:  # most where the leader stops when one of them has all that it wants
        leader, *followers = quantities
        stops = {leader, *(min(quantity, leader) for quantity in followers)}
        return max(0, *(sum(min(quantity, stop) for quantity in followers) - stop for stop in stops))
    return 0


def quantity_at_risk(group: Group, intent_id: str, wanted: Mapping[str, int], *, parent_left: int) -> int:
    """What a follower counts for beyond what it may be now, where its leader may fill so much more. The followers undo what
    the leader does; what all of them can come to beyond that is at stake, shared out in their order."""
    if group.parent in (None, intent_id) or group.native:
        return 0
    place = group.intent_ids.index(intent_id)
    before, with_it = (
        children_gain(group, group.intent_ids[1:end], wanted, parent_left=parent_left) for end in (place, place + 1)
    )
    return with_it - before


def children_gain(group: Group, names: Sequence[str], wanted: Mapping[str, int], *, parent_left: int) -> int:
    """By how much more than the leader does these followers can grow while it fills: most when it stops where one of them
    has all that it wants."""
    leader = group.intent_ids[0]
    filled = group.filled.get(leader, 0)
    stops = {
        filled,
        filled + parent_left,
        *(min(max(filled, wanted.get(name, 0)), filled + parent_left) for name in names),
    }

    def total(at: int) -> int:
        known = replace(group, filled={**group.filled, leader: at})
        return sum(permitted_quantity(known, name, wanted.get(name, 0)) for name in names)

    return max(total(stop) - total(filled) - (stop - filled) for stop in stops)


def group_max_excess(group: StandardOrderGroup) -> int:
    """The same for a group that is to be placed."""
    return max_excess(group.mode, [order.quantity for order in group.orders])


def group_violations(group: StandardOrderGroup) -> list[Violation]:
    """What is wrong with a group whatever its market is; empty when nothing is."""
    return [*size_violations(group.mode, len(group.orders)), *symbol_violations(group), *pair_violations(group)]


def size_violations(mode: OcoMode, count: int) -> list[Violation]:
    """Too few orders to depend on each other, or too many."""
    least = 1 if mode is OcoMode.NONE else 2
    if count < least:
        parent = mode is OcoMode.ONE_TRIGGERS_OTHER
        limit = "a parent and at least one child" if parent else f"at least {least} for {mode}"
    elif count > MEMBERS_MAX:
        limit = f"at most {MEMBERS_MAX}"
    else:
        return []
    return [Violation("orders", "size", limit, str(count), "{field}: must be {limit}, not {value}")]


def symbol_violations(group: StandardOrderGroup) -> list[Violation]:
    """Quantities of two symbols can't be held against each other."""
    if group.mode is OcoMode.NONE:
        return []
    known, text = group.orders[0].symbol_id, "{field} {value} is not {limit}, the symbol of the group"
    return [
        Violation(f"orders[{index}].symbol_id", "symbol", known, order.symbol_id, text)
        for index, order in enumerate(group.orders)
        if order.symbol_id != known
    ]


def pair_violations(group: StandardOrderGroup) -> list[Violation]:
    """Of a limit and a stop that stand in for each other, one would trade at once when the stop is not behind the limit:
    whatever the market's price is, it is beyond one of the two."""
    if group.mode is OcoMode.NONE:
        return []
    siblings = list(enumerate(group.orders))[1 if group.mode is OcoMode.ONE_TRIGGERS_OTHER else 0 :]
    found = []
    for number, limit in siblings:
        for other, stop in siblings:
            price, stop_price, sells = limit.price, stop.stop_price, limit.side is Side.SELL
            if (
                limit.order_type is not OrderType.LIMIT
                or limit.side is not stop.side
                or price is None
                or stop_price is None
            ):
                continue
            if price > stop_price if sells else price < stop_price:
                continue
            rule, text = (
                f"{'below' if sells else 'above'} {price}, the price of orders[{number}]",
                "{field} {value} must be {limit}",
            )
            found.append(Violation(f"orders[{other}].stop_price", "side", rule, str(stop_price), text))
    return found

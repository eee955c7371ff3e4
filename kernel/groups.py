"""Contingent orders: the quantity that a group permits each of its members. Pure.

The state folds a `Group` for each group, commands check groups before recording them, and the writer records changed fills
on the group's stream. The rule is one function, `permitted_quantity`; `plan` gets the intent limited by it, so groups need
no actions of their own. Both legs of a group can fill before the first report arrives: `max_excess` bounds the overfill.

The exits of a bracket (the children of ONE_TRIGGERS_OTHER) close what its parent opened, never more than is held of it:
what the parent filled, less fees in the base asset and what the same owner's other trades have closed, rounded down to the
lot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from kernel.errors import Violation
from kernel.order_spec import OcoMode, OrderType, Side, StandardOrderGroup, SymbolMetadata

MEMBERS_MAX = 50
"""Most orders in one group: each fill of one is compared with all of them."""


class Group(msgspec.Struct, frozen=True):
    """A group as folded from the log."""

    group_id: str
    mode: OcoMode
    intent_ids: tuple[str, ...]
    """Its members, in order; of a ONE_TRIGGERS_OTHER group the first one is the parent."""
    native: bool | None = None
    """True if the venue manages it; None before anything was sent."""
    client_id: str | None = None
    """Client id of the whole group at the venue."""
    version: int = 0
    """Version of its stream, which grows with each change of a member's fills (H19)."""
    filled: Mapping[str, int] = {}
    """Member → filled quantity, net of busts."""
    first: str | None = None
    """The member whose fill was recorded first; a bust does not undo it."""
    excess_accepted: int = 0
    """Overfill that an operator has accepted by resolving its finding."""
    symbol_id: str = ""
    """The symbol of its fills; empty before the first."""
    fees: Mapping[str, int] = {}
    """Asset → fees of its fills, at the asset's scale."""
    closed_qty: int = 0
    """Of a bracket: the quantity that trades outside the group have closed."""
    is_closable: bool = False
    """True of a bracket with an exit that works, may work or will be placed: trades outside the group can close it."""
    exit_missing_ns: int | None = None
    """Since when a bracket holds something for which no exit works; None if it does not."""

    @property
    def parent(self) -> str | None:
        """The member whose fills release the others, if any."""
        return self.intent_ids[0] if self.mode is OcoMode.ONE_TRIGGERS_OTHER else None

    def others_filled(self, intent_id: str) -> int:
        """Return the filled quantity of a member's siblings, the parent excluded."""
        return sum(quantity for other, quantity in self.filled.items() if other not in (intent_id, self.parent))

    @property
    def open_qty(self) -> int:
        """The quantity that a bracket's parent opened and that nothing has closed yet, fees not deducted."""
        return self.filled.get(self.intent_ids[0], 0) - self.others_filled("") - self.closed_qty

    def is_exit(self, intent_id: str) -> bool:
        """Return whether a member is an exit of a bracket that the kernel manages."""
        return self.parent not in (None, intent_id) and not self.native

    def with_fill(self, intent_id: str, cum_qty: int) -> Group:
        first = intent_id if self.first is None and cum_qty > 0 else self.first
        return replace(self, filled={**self.filled, intent_id: cum_qty}, first=first)

    def with_fee(self, asset_id: str, fee: int) -> Group:
        return replace(self, fees={**self.fees, asset_id: self.fees.get(asset_id, 0) + fee})


class ExitReport(NamedTuple):
    """An `EXIT_MISSING` finding that must be raised or resolved."""

    group: Group
    missing_ns: int | None
    """Since when the exit is missing; None: it is not, any more."""
    held: int
    """Quantity that the bracket holds, at the quantity scale."""
    unprotected: int
    """The part of it for which no exit works."""
    guards: tuple[str, ...]
    """The exits of which one should work."""


class ExitTerms(NamedTuple):
    """Limits of a bracket's exits besides fills."""

    fees: int = 0
    """Part of the bought quantity that was paid as fees, at the quantity scale."""
    lot: int = 1


def fees_in_base(group: Group, side: Side, symbol: SymbolMetadata | None, asset_decimals: Mapping[str, int]) -> int:
    """Return how much less than its parent bought a bracket can sell, at the quantity scale, rounded up.

    The fees of its fills in the base asset; `side` is the parent's. A rebate does not make the exits larger.
    """
    if symbol is None or side is Side.SELL or (fee := group.fees.get(symbol.base_asset, 0)) <= 0:
        return 0
    decimals = asset_decimals.get(symbol.base_asset, symbol.quantity_decimals)
    return -int(-fee * 10**symbol.quantity_decimals // 10**decimals)


def permitted_quantity(group: Group, intent_id: str, intended: int, *, fees: int = 0, lot: int = 1) -> int:
    """Return the total that a group permits a member, filled part included; `intended` is the total of its intent.

    `fees` is what `fees_in_base` deducts from a bracket's exits, `lot` the symbol's lot size.
    """
    filled = min(intended, group.filled.get(intent_id, 0))
    match group.mode:
        case OcoMode.ONE_CANCELS_OTHER if group.first not in (None, intent_id):
            return filled
        case OcoMode.ONE_UPDATES_OTHER:
            return max(filled, intended - group.others_filled(intent_id))
        case OcoMode.ONE_TRIGGERS_OTHER if intent_id != group.parent:
            held = group.filled.get(group.intent_ids[0], 0) - group.closed_qty - fees
            total = min(intended, held) - group.others_filled(intent_id)
            return max(filled, total - total % lot)
    return intended


def excess(group: Group, totals: Mapping[str, int]) -> int:
    """Return the quantity filled beyond what a group allows; `totals` is member → total of its intent."""
    filled = group.filled
    match group.mode:
        case OcoMode.ONE_CANCELS_OTHER:
            return sum(quantity for other, quantity in filled.items() if other != group.first)
        case OcoMode.ONE_UPDATES_OTHER:
            return max(0, sum(filled.values()) - max([0, *totals.values()]))
        case OcoMode.ONE_TRIGGERS_OTHER:
            return max(0, group.others_filled("") - filled.get(group.intent_ids[0], 0))
    return 0


def max_excess(mode: OcoMode, quantities: Sequence[int]) -> int:
    """Return the largest overfill of a group that the kernel manages: all legs fill before the first report (H19)."""
    if mode is OcoMode.ONE_CANCELS_OTHER:
        return sum(quantities) - min(quantities)
    if mode is OcoMode.ONE_UPDATES_OTHER:
        return sum(quantities) - max(quantities)
    if mode is OcoMode.ONE_TRIGGERS_OTHER:  # the maximum is where the parent stops at the total of a child
        parent, *children = quantities
        stops = {parent, *(min(quantity, parent) for quantity in children)}
        return max(0, *(sum(min(quantity, stop) for quantity in children) - stop for stop in stops))
    return 0


def quantity_at_risk(group: Group, intent_id: str, totals: Mapping[str, int], *, parent_left: int) -> int:
    """Return the quantity at risk of a child while its parent may still fill `parent_left`.

    Children reverse the position of the parent; only what they can fill beyond it is at risk, shared in their order.
    """
    if group.parent in (None, intent_id) or group.native:
        return 0
    place = group.intent_ids.index(intent_id)
    before, with_it = (
        children_gain(group, group.intent_ids[1:end], totals, parent_left=parent_left) for end in (place, place + 1)
    )
    return with_it - before


def children_gain(group: Group, names: Sequence[str], totals: Mapping[str, int], *, parent_left: int) -> int:
    """Return by how much these children can grow beyond their parent; the maximum is where it stops at a child's total."""
    parent = group.intent_ids[0]
    filled = group.filled.get(parent, 0)
    stops = {
        filled,
        filled + parent_left,
        *(min(max(filled, totals.get(name, 0)), filled + parent_left) for name in names),
    }

    def total(at: int) -> int:
        known = replace(group, filled={**group.filled, parent: at})
        return sum(permitted_quantity(known, name, totals.get(name, 0)) for name in names)

    return max(total(stop) - total(filled) - (stop - filled) for stop in stops)


def group_max_excess(group: StandardOrderGroup) -> int:
    """Return the largest quantity that a group can fill beyond its terms.

    Args:
        group: The group to be placed.

    Returns:
        The excess at the quantity scale of its symbol; 0 for independent orders.
    """
    return max_excess(group.mode, [order.quantity for order in group.orders])


def group_violations(group: StandardOrderGroup) -> list[Violation]:
    """Return the rules that a group breaks whatever its symbol is."""
    return [*size_violations(group.mode, len(group.orders)), *symbol_violations(group), *pair_violations(group)]


def size_violations(mode: OcoMode, count: int) -> list[Violation]:
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
    if group.mode is OcoMode.NONE:
        return []
    known, text = group.orders[0].symbol_id, "{field} {value} is not {limit}, the symbol of the group"
    return [
        Violation(f"orders[{index}].symbol_id", "symbol", known, order.symbol_id, text)
        for index, order in enumerate(group.orders)
        if order.symbol_id != known
    ]


def pair_violations(group: StandardOrderGroup) -> list[Violation]:
    """Return limit and stop legs of one side that would trade at once, as the market is always beyond one of them."""
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

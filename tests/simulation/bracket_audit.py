"""The part of the auditor for brackets: how much each exit may be, to the unit, and which exit is missing (invariant 14).

Used by the auditor; imports the standard library only. The rule, stated once more and independently: the exits of a bracket
may be what its entry filled, less the fees of its trades in the asset it bought, less what trades of the same owner outside
of brackets have closed of it, less what its other exits filled. A trade outside closes first what such trades opened
before, then the owner's brackets, the oldest first; one in the other direction first gives that back, the newest first.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from tests.simulation.account import Group, Intent
from tests.simulation.bystander_audit import BystanderAudit

DUST = 1
"""The most that fees take of an entry here, rounded up."""
Place = tuple[str, str]
"""Symbol and owner."""


class BracketAudit(BystanderAudit):
    """The book of what closes brackets."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.bought: Mapping[str, tuple[str, int]] = {}
        """Symbol to its base asset, and that asset's units in one unit of quantity."""
        self._closed: Counter[str] = Counter()
        """Group id to what trades outside of it have closed."""
        self._outside: defaultdict[Place, int] = defaultdict(int)
        """What trades outside of brackets bought net, and that closed none."""
        self._vague: set[Place] = set()
        """Where the log does not show what was open when a trade closed it: then exits are only bounded."""
        self._shown: Counter[str] = Counter()
        """Venue id to the largest total that reports show since the last correction."""

    # ----------------------------------------------------------------------------------------------------------- the log
    def _on_OrderFilled(self, intent: Intent, event: dict[str, Any], *rest: Any) -> None:  # noqa: N802
        before = intent.counted()
        super()._on_OrderFilled(intent, event, *rest)
        self._book(intent, before)

    def _on_FillBusted(self, intent: Intent, event: dict[str, Any], *rest: Any) -> None:  # noqa: N802
        before = intent.counted()
        super()._on_FillBusted(intent, event, *rest)
        self._shown.pop(event.get("exchange_order_id") or "", None)
        self._book(intent, before)

    def _on_FillCorrected(self, intent: Intent, event: dict[str, Any], *rest: Any) -> None:  # noqa: N802
        before = intent.counted()
        super()._on_FillCorrected(intent, event, *rest)
        self._shown.pop(event.get("exchange_order_id") or "", None)
        self._book(intent, before)

    def _fact(self, what: str, event: dict[str, Any]) -> None:
        venue_id = event.get("exchange_order_id") or ""
        self._shown[venue_id] = max(self._shown[venue_id], event.get("cum_qty") or 0)
        super()._fact(what, event)

    def _book(self, intent: Intent, before: Mapping[str, int]) -> None:
        """Book what a report changed in the trades of an intent outside of brackets."""
        if intent.group is not None and intent.group.mode == "ONE_TRIGGERS_OTHER":
            return
        after, sign = intent.counted(), 1 if intent.order["side"] == "BUY" else -1
        for quantity in (quantity for key, quantity in before.items() if after.get(key) != quantity):
            self._trade(intent, -sign * quantity)
        for quantity in (quantity for key, quantity in after.items() if before.get(key) != quantity):
            self._trade(intent, sign * quantity)

    def _trade(self, intent: Intent, quantity: int) -> None:
        place = (intent.order["symbol_id"], intent.owner)
        side, left, sign = ("BUY" if quantity > 0 else "SELL"), abs(quantity), 1 if quantity > 0 else -1
        brackets = self._brackets(place)
        for group in reversed(brackets):
            if group.members[0].order["side"] == side:
                part = min(left, self._closed[group.group_id])
                self._closed[group.group_id] -= part
                left -= part
        known = self._outside.pop(place, 0)
        used = min(left, max(0, -sign * known))
        left -= used
        for group in brackets:
            held = self._left_open(group)
            if group.members[0].order["side"] == side or held <= 0 or not left:
                continue
            self._note_vague(group, place)
            if self._has_exit(group):
                part = min(left, held)
                self._closed[group.group_id] += part
                left -= part
        self._outside[place] = known + sign * (used + left)

    def _brackets(self, place: Place) -> list[Group]:
        """The brackets of one place, the oldest first."""
        found = [
            group
            for group in self.groups.values()
            if group.mode == "ONE_TRIGGERS_OTHER" and not group.native and group.members
            and (group.members[0].order["symbol_id"], group.members[0].owner) == place
        ]  # fmt: skip
        return sorted(found, key=lambda group: (group.members[0].created_at_ns, group.group_id))

    def _left_open(self, group: Group) -> int:
        """What a bracket holds by the log, fees not deducted."""
        entry, *exits = map(self._filled_so_far, group.members)
        return entry - sum(exits) - self._closed[group.group_id]

    def _filled_so_far(self, intent: Intent) -> int:
        """What an intent has filled by the log: a total may be reported before its trades."""
        orders = self._by_intent[intent.intent_id]
        return max(intent.filled, sum(self._shown[order.exchange_order_id] for order in orders))

    def _has_exit(self, group: Group) -> bool:
        """Whether an exit works by the log, may work, or will be placed."""
        entry, *exits = group.members
        held = self._filled_so_far(entry) - self._closed[group.group_id] - self._fees_in_base(entry)
        for item in exits:
            others = sum(self._filled_so_far(other) for other in exits if other is not item)
            most = min(item.order["quantity"], held) - others
            if (item.desired == "WORKING" and most > self._filled_so_far(item)) or self._may_work(item):
                return True
        return self._closed[group.group_id] > 0

    def _may_work(self, intent: Intent) -> bool:
        sent = [item for item in intent.sends if item.kind != "CANCEL"]
        if any(not item.no and not self._seen(item.client_order_id) for item in sent):
            return True
        return any(order.exchange_order_id in self._working for order in self._by_intent[intent.intent_id])

    def _may_be_amended(self, intent: Intent) -> bool:
        """Whether an amend may still have an effect, and no order of the intent works."""
        amends = [item for item in intent.sends if item.kind == "AMEND" and not item.no]
        orders = self._by_intent[intent.intent_id]
        is_unseen = any(not self._seen(item.client_order_id) for item in amends)
        return is_unseen and not any(order.exchange_order_id in self._working for order in orders)

    def _was_canceled(self, intent: Intent) -> bool:
        return any(order.cum_qty < order.quantity for order in self._by_intent[intent.intent_id])

    def _note_vague(self, group: Group, place: Place) -> None:
        """Note that what is open now is not certain: a total and a correction are both known, or an exit was canceled."""
        for item in group.members:
            if (item.void or item.corrections) and self._filled_so_far(item) > item.filled:
                self._vague.add(place)
        exits = [item for item in group.members[1:] if item.sends]
        ended = any(item.desired == "CANCELED" or self._was_canceled(item) for item in exits)
        if (ended and not self._has_exit(group)) or any(map(self._may_be_amended, exits)):
            self._vague.add(place)  # whether the final quantities of their orders are known is not followed here
        if self._left_open(group) == DUST and not self._is_fee_certain(group.members[0]):
            self._vague.add(place)  # whether the fees leave something to close is not followed here

    # ------------------------------------------------------------------------------------------------------------ the end
    def exit_quantity(self, intent: Intent, filled: Mapping[str, int], working: int) -> int:
        """The total that an exit must have at the end; `working`, what it has, counts where this is only bounded."""
        group = intent.group
        assert group is not None, "an exit has a group"
        entry, *exits = group.members
        fees = self._fees(group)
        others = sum(filled[item.intent_id] for item in exits if item is not intent)
        most, own = int(intent.order["quantity"]), filled[intent.intent_id]

        def total(closed: int, fees: int) -> int:
            return max(own, min(most, filled[entry.intent_id] - closed - fees) - others)

        place = (entry.order["symbol_id"], entry.owner)
        if place in self._vague or self._ids_may_be_mistaken or fees is None:
            least = total(filled[entry.intent_id], 0)
            return min(max(working, least), total(0, fees or 0))
        return total(self._closed[group.group_id], fees)

    @property
    def _ids_may_be_mistaken(self) -> bool:
        """Whether trades may be booked to another order until more is known."""
        return self.personality is not None and bool(self.personality.names & {"ids-reused", "unnamed-trades"})

    def _fees(self, group: Group) -> int | None:
        """What fees took of what a bracket bought, rounded up; None if that is not known."""
        entry = group.members[0]
        if entry.order["side"] == "SELL":
            return 0
        if entry.order["symbol_id"] not in self.bought:
            return None
        asset_id, unit = self.bought[entry.order["symbol_id"]]
        orders = {order.exchange_order_id for item in group.members for order in self._by_intent[item.intent_id]}
        trades = [trade for trade in self._final_trades.values() if trade["exchange_order_id"] in orders]
        fees = sum(trade["fee"] for trade in trades if trade["fee_asset"] == asset_id)
        return max(0, -(-fees // unit))

    def _check_exits(self, group: Group, filled: Mapping[str, int]) -> None:
        """Check that a bracket without an exit that works has its finding, and one with such an exit has none."""
        if group.mode != "ONE_TRIGGERS_OTHER" or group.native or not group.members:
            return
        wanted = [item for item in group.members[1:] if item.desired == "WORKING"]
        stops = [item for item in wanted if item.order.get("stop_price") is not None]
        guards = stops or wanted
        working = {
            item.intent_id: sum(
                order.quantity - order.cum_qty for order in self._by_intent[item.intent_id] if order.open
            )
            for item in guards
        }
        works = any(working.values())
        missing = any(self.exit_quantity(item, filled, 0) > filled[item.intent_id] for item in guards)
        finding_id = f"EXIT_MISSING:{group.group_id}"
        if self.is_halted(group.members[0].order["symbol_id"]) or finding_id in self.dealt_with:
            return
        if missing and not works and finding_id not in self.standing:
            self.problem(14, f"{group.group_id} holds something, none of its exits works, and no finding says so")
        totals = [(item, filled[item.intent_id] + open_) for item in guards if (open_ := working[item.intent_id])]
        whole = any(total >= self.exit_quantity(item, filled, item.order["quantity"]) for item, total in totals)
        if whole and finding_id in self.standing:
            self.problem(14, f"{group.group_id} has an exit that works for all of it, and a finding that it has none")

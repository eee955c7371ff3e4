"""Groups of contingent orders, and how much of each member has filled. Folded by `Fold`.

The filled quantity comes from the members' records, so that two reports recorded at the same time are counted in full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from msgspec.structs import replace

from kernel import events
from kernel.groups import Group
from kernel.models import OrderIntent
from kernel.order_spec import Side


class Groups:
    """Groups by id and by member."""

    def __init__(self) -> None:
        self.by_id: dict[str, Group] = {}
        """In order of creation."""
        self._of: dict[str, str] = {}
        """Intent id to group id."""
        self._closable: dict[str, set[str]] = {}
        """Symbol to the brackets that trades outside them can close."""
        self.outside: dict[str, dict[str, int]] = {}
        """Symbol, then owner, to the net quantity that trades outside brackets bought and that closed no bracket."""

    def of(self, intent_id: str) -> Group | None:
        return self.by_id[self._of[intent_id]] if intent_id in self._of else None

    def members(self) -> dict[str, str]:
        """Intent id to group id, copied."""
        return dict(self._of)

    def restore(self, groups: Iterable[Group], members: Mapping[str, str]) -> None:
        """Add groups and members from a snapshot or another fold."""
        for group in groups:
            self.put(group)
        self._of.update(members)

    def put(self, group: Group) -> None:
        self.by_id[group.group_id] = group
        if group.parent is None or not group.symbol_id:
            return
        closable = self._closable.setdefault(group.symbol_id, set())
        if group.is_closable:
            closable.add(group.group_id)
        else:
            closable.discard(group.group_id)

    def closable(self, symbol_id: str) -> list[Group]:
        """The brackets of a symbol that trades outside them can close."""
        return [self.by_id[name] for name in self._closable.get(symbol_id, ())]

    def drop(self, group: Group) -> None:
        """Remove a group and its members."""
        del self.by_id[group.group_id]
        self._closable.get(group.symbol_id, set()).discard(group.group_id)
        for intent_id in group.intent_ids:
            if self._of.get(intent_id) == group.group_id:
                del self._of[intent_id]

    def apply(self, group_id: str, event: events.BaseEvent) -> None:
        """Apply an event of a group's stream."""
        if isinstance(event, events.GroupCreated):
            self.by_id[group_id] = Group(group_id, event.mode, event.intent_ids)
            self._of.update(dict.fromkeys(event.intent_ids, group_id))
        if isinstance(event, events.GroupWorked):
            self.by_id[group_id] = replace(self.by_id[group_id], native=event.native, client_id=event.group_client_id)
        if group_id in self.by_id:
            self.by_id[group_id] = replace(self.by_id[group_id], version=event.version)

    def accept_excess(self, group: Group, excess: int) -> None:
        """Record that an operator accepted a filled excess (at the quantity scale)."""
        self.by_id[group.group_id] = replace(group, excess_accepted=excess)

    def intent_created(self, event: events.IntentCreated) -> None:
        """Remove an intent id from its group if it was deleted and is used again outside the group."""
        intent = event.intent
        if intent.group_id != self._of.get(intent.intent_id):
            self._of.pop(intent.intent_id, None)

    def set_filled(self, intent_id: str, cum_qty: int, *, symbol_id: str) -> Group:
        """Set a member's filled quantity; returns its group after that."""
        changed = replace(self.by_id[self._of[intent_id]].with_fill(intent_id, cum_qty), symbol_id=symbol_id)
        self.put(changed)
        return changed

    def book_outside(
        self, symbol_id: str, owner: str, quantity: int, *, parent: Callable[[Group], OrderIntent | None]
    ) -> list[Group]:
        """Book a trade of an owner outside brackets (negative: sold); returns the brackets whose closed quantity changed.

        A sell first takes back what buys closed of short brackets, then uses what was bought outside; the rest closes the
        owner's long brackets, the oldest first. A buy does the opposite, so a busted trade leaves no trace.
        """
        owners = self.outside.setdefault(symbol_id, {})
        if not (closable := self._closable.get(symbol_id)):
            if total := owners.pop(owner, 0) + quantity:
                owners[owner] = total
            return []
        brackets = sorted(
            (intent.created_at_ns, name, intent.order.side)
            for name in closable
            if (intent := parent(self.by_id[name])) is not None and intent.owner == owner
        )
        side, left, changed = (Side.BUY if quantity > 0 else Side.SELL), abs(quantity), []
        for _, name, entry in reversed(brackets):
            if entry is side and (part := min(left, self.by_id[name].closed_qty)):
                changed.append(self._close(name, -part))
                left -= part
        sign, known = (1 if quantity > 0 else -1), owners.pop(owner, 0)
        used = min(left, max(0, -sign * known))
        left -= used
        for _, name, entry in brackets:
            if entry is not side and (part := min(left, max(0, self.by_id[name].open_qty))):
                changed.append(self._close(name, part))
                left -= part
        if total := known + sign * (used + left):
            owners[owner] = total
        return changed

    def _close(self, group_id: str, quantity: int) -> Group:
        group = self.by_id[group_id]
        self.put(replace(group, closed_qty=group.closed_qty + quantity))
        return self.by_id[group_id]

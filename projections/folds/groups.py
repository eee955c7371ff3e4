"""Groups of contingent orders, and how much of each member has filled. Folded by `Fold`.

The filled quantity comes from the members' records, so that two reports recorded at the same time are counted in full.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from kernel import events
from kernel.groups import Group


class Groups:
    """Groups by id and by member."""

    def __init__(self) -> None:
        self.by_id: dict[str, Group] = {}
        """In order of creation."""
        self._of: dict[str, str] = {}
        """Intent id to group id."""

    def of(self, intent_id: str) -> Group | None:
        group_id = self._of.get(intent_id)
        return self.by_id[group_id] if group_id is not None else None

    def members(self) -> dict[str, str]:
        """Intent id to group id, copied."""
        return dict(self._of)

    def restore(self, groups: Iterable[Group], members: Mapping[str, str]) -> None:
        """Add groups and members from a snapshot or another fold."""
        self.by_id.update((group.group_id, group) for group in groups)
        self._of.update(members)

    def drop(self, group: Group) -> None:
        """Remove a group and its members."""
        del self.by_id[group.group_id]
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

    def set_filled(self, intent_id: str, cum_qty: int) -> Group:
        """Set a member's filled quantity; returns its group after that."""
        group = self.by_id[self._of[intent_id]]
        self.by_id[group.group_id] = changed = group.with_fill(intent_id, cum_qty)
        return changed

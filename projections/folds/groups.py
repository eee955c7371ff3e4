"""Groups: which intents depend on each other, and what has filled of each. Folded by `StatusRule`.

A group's stream says that it was created, and goes on with each change of a member's fills; what the fills come to is taken
from the members' own records, so that two reports of one member, recorded at the same time, are not counted by halves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from kernel import events
from kernel.groups import Group


class Groups:
    """Every group by id, and the group of each member."""

    def __init__(self) -> None:
        self.by_id: dict[str, Group] = {}
        """In order of creation."""
        self._of: dict[str, str] = {}
        """Group ids by intent id."""

    def of(self, intent_id: str) -> Group | None:
        """The group that an intent belongs to."""
        group_id = self._of.get(intent_id)
        return self.by_id[group_id] if group_id is not None else None

    def members(self) -> dict[str, str]:
        """Group ids by intent id."""
        return dict(self._of)

    def restore(self, groups: Iterable[Group], members: Mapping[str, str]) -> None:
        """Take over what another one had."""
        self.by_id.update((group.group_id, group) for group in groups)
        self._of.update(members)

    def drop(self, group: Group) -> None:
        """All of a group is let go."""
        del self.by_id[group.group_id]
        for intent_id in group.intent_ids:
            if self._of.get(intent_id) == group.group_id:
                del self._of[intent_id]

    def apply(self, group_id: str, event: events.BaseEvent) -> None:
        """An event of a group's stream."""
        if isinstance(event, events.GroupCreated):
            self.by_id[group_id] = Group(group_id, event.mode, event.intent_ids)
            self._of.update(dict.fromkeys(event.intent_ids, group_id))
        if isinstance(event, events.GroupWorked):
            self.by_id[group_id] = replace(self.by_id[group_id], native=event.native, client_id=event.group_client_id)
        if group_id in self.by_id:
            self.by_id[group_id] = replace(self.by_id[group_id], version=event.version)

    def accept(self, group: Group, excess: int) -> None:
        """An operator has dealt with so much that filled beyond what the group allows."""
        self.by_id[group.group_id] = replace(group, excess_accepted=excess)

    def note_created(self, event: events.IntentCreated) -> None:
        """An intent id that was deleted, and is used again outside its group, is nothing to that group any more."""
        intent = event.intent
        if intent.group_id != self._of.get(intent.intent_id):
            self._of.pop(intent.intent_id, None)

    def note_fill(self, intent_id: str, cum_qty: int) -> Group:
        """A member's filled quantity changed; its group, with that."""
        group = self.by_id[self._of[intent_id]]
        self.by_id[group.group_id] = changed = group.with_fill(intent_id, cum_qty)
        return changed

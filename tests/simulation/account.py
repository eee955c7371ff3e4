"""What the auditor keeps in its books: problems, sends, venue orders and intents, from plain data alone.

Used by the auditor. Like it, this imports the standard library alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OPEN = ("PENDING_NEW", "NEW", "PARTIALLY_FILLED")


@dataclass(frozen=True)
class Problem:
    """A broken promise."""

    invariant: int
    text: str
    at_ns: int = 0
    """When it was found, on the venue's clock."""

    def __str__(self) -> str:
        return f"invariant {self.invariant}: {self.text}"


@dataclass
class Send:
    """One attempt, as the log has it."""

    position: int
    intent_id: str
    kind: str
    client_order_id: str
    stamp_ns: int
    send_by_ns: int
    valid_until_ns: int | None
    absent_after_ns: int | None
    target: tuple[str | None, str | None]
    """For a cancel: client order id and venue id of the order aimed at."""
    terms: dict[str, Any]
    generation: int = 0
    left: bool = False
    """Whether it left for the wire."""
    no: bool = False
    """Whether the log says that it came to nothing: refused, not sent, or absent."""
    refused: bool = False
    """Whether the venue refused it, by the log."""
    unknown: bool = False
    """Whether the log says that nobody knows what became of it."""


@dataclass
class Order:
    """One order at the venue, as the venue itself has it."""

    exchange_order_id: str
    client_order_id: str
    quantity: int
    price: int | None = None
    symbol_id: str = ""
    status: str = ""
    cum_qty: int = 0
    cum_qty_max: int = 0
    renamed: set[str] = field(default_factory=set)
    """Client order ids that amends in place gave it."""
    grew: bool = False
    """Whether a correction added to what had filled when it was closed."""
    closed_as: set[str] = field(default_factory=set)
    """Every status that it was closed with; a bust may open it again."""

    @property
    def open(self) -> bool:
        return self.status in OPEN

    @property
    def reopened(self) -> bool:
        """Whether a bust opened it again: then a second order may work without anybody's fault."""
        return self.open and bool(self.closed_as)


@dataclass
class Group:
    """Intents that depend on each other, as the log has it."""

    group_id: str
    mode: str
    native: bool = False
    """Whether the venue works it."""
    members: list[Intent] = field(default_factory=list)

    def others(self, intent: Intent) -> list[Intent]:
        """Those whose fills take away from one."""
        return [item for item in self.members if item is not intent and not self.leads(item)]

    def leads(self, intent: Intent) -> bool:
        """Whether its fills release the others."""
        return self.mode == "ONE_TRIGGERS_OTHER" and intent is self.members[0]

    def allowed(self, intent: Intent, filled: Mapping[str, int], *, released: int) -> int:
        """The most that one may be, its filled part included, where so much of each has filled (`released`: of the one
        that leads)."""
        wanted, own = intent.order["quantity"], filled[intent.intent_id]
        taken = sum(filled[item.intent_id] for item in self.others(intent))
        if self.mode == "NONE" or self.leads(intent):
            return int(wanted)
        if self.mode == "ONE_CANCELS_OTHER":
            return int(wanted if taken == 0 or own else 0)
        if self.mode == "ONE_TRIGGERS_OTHER":
            wanted = min(wanted, released)
        return int(max(own, wanted - taken))

    def excess(self, filled: Mapping[str, int]) -> int:
        """How much more has filled than the mode allows."""
        counted = [filled[item.intent_id] for item in self.members]
        if self.mode == "ONE_CANCELS_OTHER":
            return sum(sorted(counted)[:-1])
        if self.mode == "ONE_UPDATES_OTHER":
            return max(0, sum(counted) - max(item.most_wanted for item in self.members))
        return max(0, sum(counted[1:]) - counted[0]) if self.mode == "ONE_TRIGGERS_OTHER" else 0


@dataclass
class Beats:
    """What the log has of one owner's heartbeats."""

    ttl_ns: int | None = None
    """How long it may be silent; none while its silence means nothing."""
    position: int = 0
    """Of the newest beat."""
    at_ns: int = 0
    """When that was recorded."""
    lapsed: bool = False
    """Whether it was found silent, and not heard of since."""
    upto: int = 0
    """What it wanted before this position is withdrawn."""


@dataclass
class Intent:
    """One intent, as the log has it."""

    intent_id: str
    group: Group | None = None
    cum_seen: int = 0
    """The largest total that a report in the log has told of it."""
    order: dict[str, Any] = field(default_factory=dict)
    desired: str = "WORKING"
    recreate: bool = False
    generation: int = 0
    most_wanted: int = 0
    sends: list[Send] = field(default_factory=list)
    fills: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Quantity and price by fill key, as recorded; corrections and busts applied."""
    void: set[str] = field(default_factory=set)
    """Keys of trades and corrections that were busted; a bust may come before what it voids."""
    corrections: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By the key of what each corrects: its own key, and the quantity that it leaves."""
    findings: set[str] = field(default_factory=set)
    exceeded: bool = False
    """Whether a doubled request brought more than was wanted."""
    owner: str = ""
    wished: int = 0
    """Where what is wanted now was recorded."""
    settled: int = 0
    """Where an operator's word about it was recorded last."""
    over: set[int] = field(default_factory=set)
    """Generations that an operator said were refused."""
    canceled_for_good: bool = False
    """Whether a cancel of it was acknowledged to a strategy."""

    @property
    def filled(self) -> int:
        """What the log counts as filled."""
        corrections = {key for key, _ in self.corrections.values()}
        return sum(self._left(key) for key in {*self.fills, *self.corrections} - corrections)

    @property
    def reported(self) -> int:
        """What the trades in the log come to; more than the venue ever had at once, if the report of a bust was lost."""
        return sum(map(self._left, self.fills))

    def _left(self, fill_key: str) -> int:
        """What its corrections and busts leave of a trade."""
        quantity = self.fills[fill_key][0] if fill_key in self.fills else 0
        while fill_key not in self.void:
            if fill_key not in self.corrections:
                return quantity
            fill_key, quantity = self.corrections[fill_key]
        return 0

    def submits(self, client_order_id: str) -> list[Send]:
        """The sends that an order of this id can come of: a submit's, or those of a replace."""
        return [item for item in self.sends if item.kind != "CANCEL" and item.client_order_id == client_order_id]

    def aimed(self, order: Order, *kinds: str) -> list[Send]:
        """The sends of some kinds that aim at an order."""
        names = (order.client_order_id, *order.renamed)
        return [
            item
            for item in self.sends
            if item.kind in kinds
            and (item.target[1] == order.exchange_order_id or (item.target[1] is None and item.target[0] in names))
        ]

"""The auditor's books: problems, sends, venue orders and intents, from plain data.

Used by the auditor; imports the standard library only.
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
    beside: str = ""
    """The unknown submit of its symbol and side that it could not be told from; empty without one."""
    no: bool = False
    """Whether the log resolves it as rejected, not sent, or absent."""
    refused: bool = False
    """Whether the venue refused it, by the log."""
    unknown_at: int = 0
    """Position at which the log has its outcome as unknown; 0 if it never was."""


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
    ended_ns: int = 0
    """When it ended first."""
    renamed: set[str] = field(default_factory=set)
    """Client order ids from modifies in place."""
    grew: bool = False
    """Whether a correction added to what had filled when it was closed."""
    closed_as: set[str] = field(default_factory=set)
    """Every status that it was closed with; a bust may open it again."""
    closed_position: int = 0
    """Where the log ended when it was closed last: what is recorded later did not cause it."""

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

    def is_exit(self, intent: Intent) -> bool:
        """Whether it closes what a bracket opened, and the kernel works it: it is placed again until it is filled."""
        return self.mode == "ONE_TRIGGERS_OTHER" and not self.leads(intent) and not self.native

    def allowed(self, intent: Intent, filled: Mapping[str, int], *, released: int) -> int:
        """The most that a member may be, including its fills, given the members' fills (`released`: the parent's)."""
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
    """The log's record of one owner's heartbeats."""

    ttl_ns: int | None = None
    """Longest permitted gap; None while disarmed."""
    position: int = 0
    """Position of the newest heartbeat."""
    at_ns: int = 0
    """When that was recorded."""
    lapsed: bool = False
    """Whether it has lapsed since."""
    upto: int = 0
    """Its intents from before this position are revoked."""


@dataclass
class Intent:
    """One intent, as the log has it."""

    intent_id: str
    group: Group | None = None
    cum_seen: int = 0
    """The largest total that a recorded report shows."""
    order: dict[str, Any] = field(default_factory=dict)
    desired: str = "WORKING"
    recreate: bool = False
    generation: int = 0
    most_wanted: int = 0
    sends: list[Send] = field(default_factory=list)
    fills: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Quantity and price by fill key, as recorded; corrections and busts applied."""
    fees: dict[str, int] = field(default_factory=dict)
    """The fee of each trade by fill key, as recorded, in units of its asset."""
    fees_position: int = 0
    """Log position of the newest of them."""
    void: set[str] = field(default_factory=set)
    """Keys of busted trades and corrections; a bust may precede its trade."""
    corrections: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By the key of what each corrects: its own key, and the quantity that it leaves."""
    findings: set[str] = field(default_factory=set)
    exceeded: bool = False
    """Whether a duplicated request exceeded the intent's quantity."""
    owner: str = ""
    created_at_ns: int = 0
    wished: int = 0
    """Position at which the current terms were recorded."""
    settled: int = 0
    """Position of the last manual resolution."""
    over: set[int] = field(default_factory=set)
    """Generations that an operator resolved as rejected."""
    canceled_for_good: bool = False
    """Whether a cancel of it was acknowledged to a strategy."""

    @property
    def filled(self) -> int:
        """The filled quantity by the log."""
        corrections = {key for key, _ in self.corrections.values()}
        return sum(self._left(key) for key in {*self.fills, *self.corrections} - corrections)

    @property
    def reported(self) -> int:
        """Sum of the recorded trades; more than the venue ever had at once if a bust report was lost."""
        return sum(map(self._left, self.fills))

    def counted(self) -> dict[str, int]:
        """The trades that count: quantity by the key of the trade, or of its newest correction."""
        roots = {*self.fills, *self.corrections} - {key for key, _ in self.corrections.values()}
        return {self._newest(root): quantity for root in roots if (quantity := self._left(root))}

    def _newest(self, fill_key: str) -> str:
        while fill_key in self.corrections:
            fill_key = self.corrections[fill_key][0]
        return fill_key

    def _left(self, fill_key: str) -> int:
        """Quantity of a trade after its corrections and busts."""
        quantity = self.fills[fill_key][0] if fill_key in self.fills else 0
        while fill_key not in self.void:
            if fill_key not in self.corrections:
                return quantity
            fill_key, quantity = self.corrections[fill_key]
        return 0

    def submits(self, client_order_id: str) -> list[Send]:
        """The sends that can have made an order of this id: those of a submit, or of a replace."""
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

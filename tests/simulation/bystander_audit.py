"""The part of the auditor for everyone but strategies: halts, external orders, heartbeats, manual resolutions.

Used by the auditor; imports the standard library only. The numbers of its problems:

    9 under a halt nothing is placed or modified, and    11 orders of an owner that misses its heartbeat are
      open orders are canceled; nothing is placed in        canceled, not sooner than its ttl, and no others
      a symbol that is quarantined
    10 external orders are ignored, adopted or           12 a manual resolution is recorded as given, not before
      canceled by the policy; each once                     evidence can no longer come, and has no other effect
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.simulation.account import Beats, Intent, Order, Send
from tests.simulation.log_audit import LogAudit

SKEW_NS = 300_000_000
"""By how much two clocks of a run differ at most, and a commit takes."""
SILENCES = 3
"""A lapsed heartbeat must be recorded within this many times its ttl."""
DEAF_NS = 15_000_000_000
"""The longest time a leader needs to receive reports again after faults have stopped."""
KERNEL_ID = re.compile(r"[a-z2-7]{12,26}")
"""The form of kernels' client order ids."""


class BystanderAudit(LogAudit):
    """Their book."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.policy = "IGNORE"
        """The policy for external orders."""
        self.foreign: set[str] = set()
        """Venue ids of orders on the account that no kernel placed."""
        self._unexpected: set[tuple[str, str]] = set()
        """Symbol and shown id of the external orders whose trades ever raised a finding."""
        self._reused: set[tuple[str, str]] = set()
        """Symbol and shown id that ever raised a finding that they stand for two orders."""
        self._named: dict[str, bool] = {}
        """Venue ids of the external orders that the log has, and whether their client order ids were reported."""
        self._holds: list[tuple[int, str | None, bool]] = []
        """Position, symbol (none: all), and whether it is halted from there on."""
        self._quarantines: dict[str, int] = {}
        """Symbols whose data do not fit the log, by the log, and since which position."""
        self._beats: dict[str, Beats] = {}
        self._silences: dict[int, str] = {}
        """Owners whose heartbeat lapsed, by position."""
        self._words: set[tuple[str, str]] = set()
        """Manual resolutions by client order id."""

    @property
    def position(self) -> int:
        """Of the newest row."""
        return self._position

    # ------------------------------------------------------------------------------------------------------------- halts
    def _on_Paused(self, _: Intent, event: dict[str, Any], position: int, *rest: Any) -> None:  # noqa: N802
        if event.get("intent_id") is None:
            self._holds.append((position, event.get("symbol_id"), True))

    def _on_Resumed(self, _: Intent, event: dict[str, Any], position: int, *rest: Any) -> None:  # noqa: N802
        if event.get("intent_id") is None:
            self._holds.append((position, event.get("symbol_id"), False))

    def _held(self, target: str | None, at: int) -> bool:
        """Whether all, or a symbol by itself, were held at a position."""
        return next(
            (held for position, what, held in reversed(self._holds) if position <= at and what == target), False
        )

    def is_halted(self, symbol_id: str, at: int | None = None) -> bool:
        """Whether nothing may be placed in a symbol, by the log up to a position."""
        upto = self._position if at is None else at
        return self._held(None, upto) or self._held(symbol_id, upto)

    def halted(self, *, symbol_id: str | None, since: int) -> None:
        """A halt was acknowledged; its command was given when the log ended at `since`."""
        if not self._held(symbol_id, since) and (symbol_id, True) not in self._news(since):
            self.problem(9, f"a halt of {symbol_id or 'all'} was acknowledged after {since}, and is not in the log")
        for intent in self.intents.values():
            if intent.wished <= since and symbol_id in (None, intent.order["symbol_id"]):
                self._check_taken_down(intent)

    def resumed(self, *, symbol_id: str | None, since: int) -> None:
        """A resume was acknowledged."""
        if self._held(symbol_id, since) and (symbol_id, False) not in self._news(since):
            self.problem(9, f"a resume of {symbol_id or 'all'} was acknowledged after {since}, and is not in the log")

    def _news(self, since: int) -> set[tuple[str | None, bool]]:
        return {(what, held) for position, what, held in self._holds if position > since}

    def _check_taken_down(self, intent: Intent) -> None:
        """Check that after a halt every open or pending order is canceled."""
        if intent.desired == "CANCELED":
            return
        works = [
            order
            for order in self._by_intent[intent.intent_id]
            if order.open and not order.reopened and order.exchange_order_id in self._working
        ]
        if works and not any(order.client_order_id in self.doubled for order in works):
            self.problem(
                9, f"a halt was acknowledged, and {intent.intent_id} is wanted: {works[0].exchange_order_id} works"
            )
        if not intent.sends and intent.group is None and not self._by_intent[intent.intent_id]:
            self.problem(9, f"a halt was acknowledged, and {intent.intent_id} is wanted as soon as it ends")

    def _check_halt(self, intent: Intent, send: Send, event: dict[str, Any]) -> None:
        """Whether something is placed or changed that was halted when it was decided."""
        if send.kind != "CANCEL" and self.is_halted(send.terms["symbol_id"], event["state_position"]):
            self.problem(9, f"{intent.intent_id}'s {send.client_order_id}, a {send.kind}, is started under a halt")
        since = self._quarantines.get(send.terms["symbol_id"], event["state_position"] + 1)
        if send.kind != "CANCEL" and since <= event["state_position"]:
            self.problem(9, f"{intent.intent_id}'s {send.client_order_id} is started in a symbol that is quarantined")

    # ---------------------------------------------------------------------------------------------------- foreign orders
    def _is_taken(self, order: Order) -> bool:
        """Whether the policy has a kernel adopt an external order."""
        return self.policy != "IGNORE" and KERNEL_ID.fullmatch(order.client_order_id or "") is None

    def _check_adoption(self, intent: Intent, wanted: Mapping[str, Any]) -> None:
        """Check that an intent made for a venue order is made for an external one, with its terms, and once."""
        adopted = (wanted.get("metadata") or {}).get("adopted")
        if adopted is None:
            return
        venue_id, name = adopted["exchange_order_id"], intent.intent_id
        order = self.orders.get(venue_id)
        if order is None or venue_id not in self.foreign:
            self.problem(10, f"{name} is made for {venue_id}, which is no foreign order")
            return
        if venue_id in self._adopted:
            self.problem(10, f"{name} is made for {venue_id}, which {self._adopted[venue_id]} has")
        if not self._is_taken(order):
            self.problem(10, f"{name} is made for {venue_id}, which is to be left alone")
        if (wanted["desired"] == "CANCELED") != (self.policy == "CANCEL"):
            self.problem(10, f"{name} is made {wanted['desired']}, the policy is {self.policy}")
        if (wanted["order"]["quantity"], wanted["order"].get("price")) != (order.quantity, order.price):
            self.problem(10, f"{name} has other terms than {venue_id}")
        self._adopted[venue_id] = name
        self._by_intent[name].append(order)

    def _check_left_alone(self, op: str, venue_id: str | None) -> None:
        """Check that no request aims at an external order that was not adopted."""
        if venue_id in self.foreign and venue_id not in self._adopted:
            self.problem(10, f"{op} aims at {venue_id}, a foreign order that nobody has adopted")

    def _on_ExternalOrderObserved(self, _: Intent, event: dict[str, Any], *rest: Any) -> None:  # noqa: N802
        self._fill_keys.add(event.get("fill_key") or "")
        venue_id = event.get("exchange_order_id") or ""
        self._named[venue_id] = self._named.get(venue_id, False) or bool(event.get("client_order_id"))

    def _is_hidden(self, order: Order) -> bool:
        """Whether no report told a client order id of an order that the log has: it may be another kernel's, as lists do
        not show that it has none, and what the stream says of it may come while a submit is unresolved."""
        if self.personality is None:
            return False
        if "ids-reused" in self.personality.names and not order.client_order_id:  # it may be one of ours (H25)
            return any(order.exchange_order_id in self.personality.true_ids(*shown) for shown in self._reused)
        return "unnamed-orders" in self.personality.names and self._named.get(order.exchange_order_id) is False

    def _on_FindingResolved(self, intent: Intent, event: dict[str, Any], *rest: Any) -> None:  # noqa: N802
        super()._on_FindingResolved(intent, event, *rest)
        self._quarantines.pop(event["finding_id"].removeprefix("SYMBOL_QUARANTINED:"), None)

    def _on_FindingRaised(self, intent: Intent, event: dict[str, Any], position: int, *rest: Any) -> None:  # noqa: N802
        super()._on_FindingRaised(intent, event, position, *rest)
        kind, _, about = event["finding"]["finding_id"].partition(":")
        if kind == "UNEXPECTED_TRADE":
            self._unexpected.add((event["finding"]["symbol_id"], about.split("/")[-1]))
        if kind == "SYMBOL_QUARANTINED":
            self._quarantines.setdefault(event["finding"]["symbol_id"], position)
        if kind == "ID_REUSED" and "/" in about:
            self._reused.add((event["finding"]["symbol_id"], about.split("/")[-1]))

    def _check_foreign(self, unknown: set[str]) -> None:
        """Check the external orders at the end; `unknown`: symbols with an unresolved submit."""
        traded = {trade["exchange_order_id"] for trade in self.trades.values()}
        ids_of = self.personality.true_ids if self.personality is not None else lambda _, shown: [shown]
        told = {venue_id for shown in self._unexpected for venue_id in ids_of(*shown)}
        for venue_id in sorted(self.foreign & self.orders.keys()):
            order = self.orders[venue_id]
            lost = not order.client_order_id and order.symbol_id in unknown
            adopted = self._adopted.get(venue_id)
            if order.open and adopted is None and self._is_taken(order) and not (lost or self._is_hidden(order)):
                self.problem(10, f"foreign order {venue_id} works, and nobody took it: the policy is {self.policy}")
            if adopted is None and venue_id in traded and venue_id not in told:
                self.problem(10, f"foreign order {venue_id} traded, and no finding says so")
            own_ids = ids_of(order.symbol_id, venue_id) == [venue_id]  # else the finding names another order
            if adopted is not None and own_ids and f"UNEXPECTED_TRADE:{venue_id}" in self.standing:
                self.problem(10, f"the trades of {venue_id} are {adopted}'s, and stand as unexpected")

    # -------------------------------------------------------------------------------------------------------- heartbeats
    def _on_HeartbeatReceived(  # noqa: N802
        self, _: Intent, event: dict[str, Any], position: int, evidence: str, recorded_at_ns: int
    ) -> None:
        beats = self._heard_of(event["owner"], position)
        beats.ttl_ns, beats.position, beats.at_ns = event["ttl_ns"], position, self.now_ns

    def _on_HeartbeatDisarmed(self, _: Intent, event: dict[str, Any], position: int, *rest: Any) -> None:  # noqa: N802
        self._heard_of(event["owner"], position).ttl_ns = None

    def _heard_of(self, owner: str, position: int) -> Beats:
        beats = self._beats.setdefault(owner, Beats())
        if beats.lapsed:
            beats.lapsed, beats.upto = False, position
        return beats

    def _on_HeartbeatLapsed(self, _: Intent, event: dict[str, Any], position: int, *rest: Any) -> None:  # noqa: N802
        owner = event["owner"]
        beats = self._beats.setdefault(owner, Beats())
        if beats.ttl_ns is None or beats.lapsed:
            self.problem(11, f"{owner} is found silent, which it is already, or need not speak")
        elif event["beat_position"] != beats.position:
            self.problem(
                11, f"{owner} is found silent after {event['beat_position']}, its newest beat is {beats.position}"
            )
        elif self.now_ns - beats.at_ns < beats.ttl_ns * 0.999:
            silent_s = (self.now_ns - beats.at_ns) / 1e9
            self.problem(
                11, f"{owner} is found silent {silent_s:.3f} s after its beat, it may be for {beats.ttl_ns / 1e9:g} s"
            )
        beats.lapsed = True
        self._silences[position] = owner

    def _is_revoked(self, intent: Intent) -> bool:
        """Whether the owner's heartbeat lapsed after the intent was recorded."""
        beats = self._beats.get(intent.owner) if intent.owner else None
        return beats is not None and (beats.lapsed or intent.wished < beats.upto)

    def _on_IntentCancelRequested(self, intent: Intent, event: dict[str, Any], *rest: Any) -> None:  # noqa: N802
        told = re.fullmatch(r"(.+) missed its heartbeat \(position (\d+)\)", event.get("reason") or "")
        by_itself = self.actor == "kernel"
        if by_itself is not bool(told):
            self.problem(11, f"{intent.intent_id} is canceled by {self.actor}, and the reason is {event.get('reason')}")
        if told and (told[1] != intent.owner or self._silences.get(int(told[2])) != intent.owner):
            self.problem(11, f"{intent.intent_id} of {intent.owner} is canceled as {told[0]}, which is not in the log")
        if by_itself and not self._is_revoked(intent):
            self.problem(11, f"{intent.intent_id} is canceled, though {intent.owner} was heard before it was wanted")
        super()._on_IntentCancelRequested(intent, event, *rest)

    def _check_silences(self) -> None:
        """Check which heartbeats should have lapsed, and the intents of lapsed owners."""
        for owner, beats in self._beats.items():
            if beats.ttl_ns is None or beats.lapsed:
                continue
            silent_ns = self.now_ns - beats.at_ns
            if silent_ns > SILENCES * beats.ttl_ns + DEAF_NS:
                self.problem(11, f"{owner} is silent for {silent_ns / 1e9:.0f} s, and nobody said so")
        for intent in self.intents.values():
            if intent.desired == "CANCELED" or not self._is_revoked(intent):
                continue
            works = [order for order in self._by_intent[intent.intent_id] if order.open and not order.reopened]
            if works or not (intent.sends or intent.group):
                self.problem(11, f"{intent.owner} missed its heartbeat, and {intent.intent_id} is still WORKING")

    # ----------------------------------------------------------------------------------------------------------- a word
    def word(self, *, client_order_id: str, outcome: str) -> None:
        """An operator resolves a request truthfully."""
        self._words.add((client_order_id, outcome))

    def _on_AttemptUnknown(self, intent: Intent, event: dict[str, Any], position: int, *rest: Any) -> None:  # noqa: N802
        send = self._send_at(intent, event["attempt_position"])
        if send is not None:
            send.unknown_at = position

    def _on_AttemptResolved(  # noqa: N802
        self, intent: Intent, event: dict[str, Any], position: int, evidence: str, recorded_at_ns: int
    ) -> None:
        if evidence != "OPERATOR":
            super()._on_AttemptResolved(intent, event, position, evidence, recorded_at_ns)
            return
        send = self._send_at(intent, event["attempt_position"])
        if send is None:
            return
        name, outcome = send.client_order_id, event["outcome"]
        sends = [item for item in intent.sends if item.client_order_id == name and item.position <= send.position]
        if (name, outcome) not in self._words:
            self.problem(12, f"{name} is {outcome} by an operator's word, and none said so")
        # One that was sent again has no call any more: its kernel was replaced.
        if any(not item.no and not item.unknown_at for item in sends[-1:]):
            self.problem(12, f"{name} is settled by a word while its call was out")
        if any(recorded_at_ns + SKEW_NS < (item.absent_after_ns or 0) for item in sends if not item.no):
            self.problem(12, f"{name} is settled by a word while it could still arrive")
        for item in sends:
            item.no = True
        intent.settled = position
        if outcome == "REJECTED":
            send.refused = True
            intent.over.add(send.generation)

    def _check_word(self, intent: Intent, send: Send, event: dict[str, Any]) -> None:
        """Check that nothing more is sent for a generation that an operator resolved as rejected.

        An exit of a bracket is: as if the venue itself had refused it, it is tried again while the bracket holds something.
        """
        is_exit = intent.group is not None and intent.group.is_exit(intent)
        if send.kind != "CANCEL" and event["generation"] in intent.over and not is_exit:
            self.problem(
                12, f"{intent.intent_id}'s {send.client_order_id} is sent, though an operator said it was refused"
            )

    def _check_gone_on(self, intent: Intent, status: str) -> None:
        """Check that a manually resolved intent continued."""
        if intent.settled and all(send.position < intent.settled for send in intent.sends) and status == "UNKNOWN":
            self.problem(12, f"{intent.intent_id} ends UNKNOWN, though an operator settled it")

"""The half of the auditor that reads the log: each row's meaning, legality and truth.

Used by the auditor; imports the standard library only.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from tests.simulation.account import Group, Intent, Order, Problem, Send

LISTED_NS = 59_000_000_000
"""How long a venue of `short-history` lists trades, less the clocks' skew."""
MINUTE_NS = 60_000_000_000
SENDS_MAX = 40
"""The most sends of one intent within a minute, apart from those that its strategy causes."""
TIMESTAMP_REFUSED = "-1021"
"""The venue's code of a refusal for the timestamp."""
BASE_UNITS = 10**6
"""Units of a base asset in one unit of a quantity."""
UNDONE_MAX = 9
"""The most orders of one intent that the venue ends at once within a minute (H24: 7), with some that are forced."""
TERMINAL = ("FILLED", "CANCELED", "REJECTED", "EXPIRED")
INTENT = "intent:"


class LogAudit:
    """The book that is kept from the log's rows."""

    def __init__(
        self,
        *,
        dedupe: str,
        window_ns: int | None,
        immediate: bool = True,
        replaces: bool = False,
        on_top: bool = False,
    ) -> None:
        """`immediate`: rows and truth arrive in the order of events and are compared at once, otherwise (truth is
        polled) at the end. `replaces`: a modify ends its target; `on_top`: fills during a modify add to its quantity."""
        self.ending = ("CANCEL", "AMEND") if replaces else ("CANCEL",)
        """Requests that may have caused the end of an order."""
        self.on_top = on_top
        self.problems: list[Problem] = []
        self.dedupe = dedupe
        self.window_ns = window_ns
        self.immediate = immediate
        self.now_ns = 0
        """The venue's time, set by the caller."""
        self.intents: dict[str, Intent] = {}
        self.orders: dict[str, Order] = {}
        """By venue id."""
        self.trades: dict[str, dict[str, Any]] = {}
        """As first reported, by fill key."""
        self.limits: Mapping[str, int] = {}
        """Pre-trade limits at the quantity scale; limits of sums only if one kernel takes all commands."""
        self.groups: dict[str, Group] = {}
        self._member_of: dict[str, Group] = {}
        self._group_ids: set[str] = set()
        """Client ids of groups that the venue works."""
        self.standing: dict[str, str] = {}
        """Kinds of the open findings by id."""
        self.gap_ns = 0
        """Trades before it were no longer listed when the kernel last said so."""
        self.looks_up = True
        """Whether the venue shows an order that is asked for by an id."""
        self.dealt_with: set[str] = set()
        """Findings that an operator resolved."""
        self.doubled: set[str] = set()
        """Client order ids of submits that the network doubled."""
        self.doubled_changes: set[str] = set()
        """Intents with a modify duplicated by the network: the copy may be accepted though the first was rejected."""
        self.ticks: dict[str, int] = {}
        """Tick sizes that the venue changed."""
        self.personality: Any = None
        """What the venue shows, and how it differs from the truth; None for the paper exchange itself."""
        self.false_ends: Counter[str] = Counter()
        """Venue ids of orders to how often the venue reported falsely that they ended."""
        self.reduced: set[str] = set()
        """Venue ids of orders that the venue reduced by itself."""
        self.hides_ids = False
        """Whether an order of ours may be shown without its client order id, and no query by that id finds it."""
        self.actor = ""
        """Who wrote the row that is read."""
        self._adopted: dict[str, str] = {}
        """Intents of adopted external orders, by venue id."""
        self._epoch = 0
        self._position = 0
        self._versions: dict[str, int] = defaultdict(int)
        self._owner: dict[str, str] = {}
        """Intent ids by client order id."""
        self._by_intent: dict[str, list[Order]] = defaultdict(list)
        self._acknowledged: list[tuple[str, str]] = []
        self._failed: set[str] = set()
        """Intents that a strategy was told have failed."""
        self._over_for_good: set[tuple[str, int]] = set()
        """Intents with generation, of which a strategy was told that it is too late to cancel."""
        self._told: set[str] = set()
        self._reported: set[str] = set()
        """Client order ids that a report in the log names."""
        self._last_position: set[str] = set()
        """Venue ids that a report in the log names."""
        self._working: set[str] = set()
        """Venue ids of orders that work, by the log."""
        self._over: dict[str, int] = {}
        """Venue ids of orders that the log has seen closed, and where first."""
        self._watched: dict[str, int] = {}
        """The last position that each subscriber received."""
        self._fill_keys: set[str] = set()
        """Those of all trades in the log."""
        self._moot: set[int] = set()
        """Positions of amends whose terms the log has seen at the venue."""
        self._final_trades: dict[str, dict[str, Any]] = {}
        self._later: list[tuple[str, dict[str, Any]]] = []
        """Facts in the log that are held against the venue's truth at the end."""

    # What others than strategies do is watched by another part of the auditor.
    def _check_adoption(self, intent: Intent, wanted: Mapping[str, Any]) -> None:
        raise NotImplementedError

    def _check_halt(self, intent: Intent, send: Send, event: dict[str, Any]) -> None:
        raise NotImplementedError

    def _check_word(self, intent: Intent, send: Send, event: dict[str, Any]) -> None:
        raise NotImplementedError

    def is_known(self, exchange_order_id: str) -> bool:
        """Whether a report in the log names an order."""
        return exchange_order_id in self._last_position

    def owner(self, client_order_id: str) -> str:
        """The intent of a client order id; the id itself if the log has none."""
        return self._owner.get(client_order_id, client_order_id)

    def ids_under(self, client_order_id: str) -> set[str]:
        """The client order ids that a request brings: its own, or those of the group that it is about."""
        group = (
            self._member_of.get(self._owner.get(client_order_id, "")) if client_order_id in self._group_ids else None
        )
        if group is None:
            return {client_order_id}
        return {item.sends[-1].client_order_id for item in group.members}

    def problem(self, invariant: int, text: str) -> None:
        """Note a broken promise, each once."""
        if text not in self._told:
            self._told.add(text)
            self.problems.append(Problem(invariant, text, self.now_ns))

    # ----------------------------------------------------------------------------------------------------------- the log
    def logged(
        self, *, position: int, stream_id: str, version: int, topic: str, recorded_at_ns: int, meta: Any, state: Any
    ) -> None:
        """One row of the log, in order."""
        if position != self._position + 1:
            self.problem(8, f"position {position} follows {self._position}")
        if version != self._versions[stream_id] + 1:
            self.problem(8, f"{stream_id} has version {version} after {self._versions[stream_id]}")
        self._position, self._versions[stream_id] = position, version
        handler = getattr(self, f"_on_{topic}", None)
        if handler is None:
            return
        event: dict[str, Any] = json.loads(state)
        if self.personality is not None:
            event = self.personality.true_row(event)
        intent_id = event.get("intent_id") or stream_id.removeprefix(INTENT)
        told = json.loads(meta)
        self.actor = told["actor"]
        handler(self._intent(intent_id), event, position, told["evidence"], recorded_at_ns)

    def _owner_of(self, order: Order) -> str:
        """The intent that an order at the venue belongs to; empty without one."""
        return self._adopted.get(order.exchange_order_id) or self._owner.get(order.client_order_id, "")

    def _intent(self, intent_id: str) -> Intent:
        return self.intents.get(intent_id) or Intent(intent_id)

    def _on_LeaderElected(self, _: Intent, event: dict[str, Any], position: int, *rest: Any) -> None:  # noqa: N802
        if event["epoch"] != self._epoch + 1:
            self.problem(8, f"epoch {event['epoch']} is elected after {self._epoch}")
        self._epoch = event["epoch"]

    def _on_IntentCreated(self, intent: Intent, event: dict[str, Any], position: int, *rest: Any) -> None:  # noqa: N802
        wanted = event["intent"]
        intent.intent_id, intent.owner = wanted["intent_id"], wanted["owner"]
        intent.created_at_ns = wanted["created_at_ns"]
        self.intents[intent.intent_id] = intent
        if (group := self._member_of.get(intent.intent_id)) is not None:
            intent.group = group
            group.members.append(intent)
        intent.recreate = wanted["on_unsolicited_cancel"] == "RECREATE"
        self._check_adoption(intent, wanted)
        self._wants(intent, wanted, position)

    def _on_IntentModified(self, intent: Intent, event: dict[str, Any], position: int, *rest: Any) -> None:  # noqa: N802
        self._wants(intent, event["intent"], position)

    def _wants(self, intent: Intent, wanted: dict[str, Any], position: int) -> None:
        if intent.intent_id not in self._adopted.values():
            self._check_quantity(intent, wanted["order"])
        intent.wished = position
        intent.order, intent.desired, intent.generation = wanted["order"], wanted["desired"], wanted["generation"]
        intent.most_wanted = max(intent.most_wanted, intent.order["quantity"])
        self._failed.discard(intent.intent_id)

    def _check_quantity(self, intent: Intent, order: dict[str, Any]) -> None:
        """Check a requested quantity against the single-order limit; reduce-only requests are exempt."""
        most, before = self.limits.get("order_quantity_max"), intent.order.get("quantity", 0)
        if most is not None and order["quantity"] > max(most, before):
            self.problem(6, f"{intent.intent_id} is recorded for {order['quantity']}, the limit is {most}")

    def _on_IntentCancelRequested(self, intent: Intent, event: dict[str, Any], *rest: Any) -> None:  # noqa: N802
        intent.desired, intent.generation = "CANCELED", event["generation"]

    def _on_GroupCreated(self, _: Intent, event: dict[str, Any], *rest: Any) -> None:  # noqa: N802
        group = Group(event["group_id"], event["mode"])
        self.groups[group.group_id] = group
        if any(intent_id in self.intents for intent_id in event["intent_ids"]):
            self.problem(
                8, f"{group.group_id} is recorded after its members: they could be sent without what binds them"
            )
        self._member_of.update(dict.fromkeys(event["intent_ids"], group))

    def _on_GroupWorked(self, _: Intent, event: dict[str, Any], *rest: Any) -> None:  # noqa: N802
        group = self.groups[event["group_id"]]
        group.native = event["native"]
        if group.native:  # faults are drawn for its first order
            self._owner[event["group_client_id"]] = group.members[0].intent_id
            self._group_ids.add(event["group_client_id"])
        orders = [order for item in group.members for order in self._by_intent[item.intent_id]]
        if orders and not group.native:
            self.problem(
                7, f"{group.group_id} is worked by the kernel, and the venue has {orders[0].exchange_order_id}"
            )

    def _check_group(self, intent: Intent, send: Send, decided_position: int) -> None:
        """Check that no order is sent, or enlarged, beyond what the group's recorded fills permit (H19).

        A fee counts once the decision could know it: an inferred fill has none, and its trade adds nothing to the group.
        """
        group = intent.group
        if group is None or group.native or (send.kind == "AMEND" and not self._enlarges(send)):
            return
        filled = {item.intent_id: item.filled for item in group.members}
        filled[intent.intent_id] = (
            max(intent.filled, intent.cum_seen) if group.mode == "ONE_CANCELS_OTHER" else intent.filled
        )
        leader = group.members[0]
        most = group.allowed(intent, filled, released=self._released(leader))
        asked = send.terms["quantity"] + (intent.filled if send.kind == "SUBMIT" else 0)
        if asked > most:
            self.problem(2, f"{intent.intent_id} of {group.group_id} is sent for {asked}, its siblings leave it {most}")
            return
        fees = self._fees_in_base(leader) if leader.fees_position <= decided_position else 0
        held = group.allowed(intent, filled, released=self._released(leader) - fees)
        if group.mode == "ONE_TRIGGERS_OTHER" and asked > held:
            self.problem(14, f"{intent.intent_id} of {group.group_id} is sent for {asked}, {held} is held")

    def _fees_in_base(self, leader: Intent) -> int:
        """What fees took of what a group's parent bought, rounded up, as far as the log knows."""
        if leader.order["side"] == "SELL" or not self._is_fee_certain(leader):
            return 0
        return -(-sum(leader.fees.values()) // BASE_UNITS)

    def _is_fee_certain(self, leader: Intent) -> bool:
        """Whether the log has the fees of its trades with them, and none was undone."""
        late = self.personality is not None and "late-fees" in self.personality.names
        return not (late or leader.void or leader.corrections)

    def _released(self, leader: Intent) -> int:
        """The filled quantity of a group's parent that the log may know, including a duplicate by the network."""
        orders = self._by_intent[leader.intent_id]
        doubled = any(order.client_order_id in self.doubled for order in orders)
        at_venue = sum(order.cum_qty_max for order in orders) if doubled else 0
        return max(leader.reported, leader.cum_seen, at_venue)

    def _enlarges(self, send: Send) -> bool:
        order = self.orders.get(send.target[1] or "")
        return order is not None and send.terms["quantity"] > order.quantity

    def _on_AttemptStarted(self, intent: Intent, event: dict[str, Any], position: int, *rest: Any) -> None:  # noqa: N802
        client_id = event["client_order_id"]
        send = Send(
            position, intent.intent_id, event["kind"], client_id, event["stamp_ns"], event["send_by_ns"],
            event.get("valid_until_ns"), event.get("absent_after_ns"),
            (event.get("target_client_order_id"), event.get("target_exchange_order_id")), event["order"],
            event["generation"],
        )  # fmt: skip
        if event["epoch"] != self._epoch:
            self.problem(8, f"{client_id} is started in epoch {event['epoch']}, the log is in {self._epoch}")
        if send.kind != "CANCEL":
            self._owner[client_id] = intent.intent_id
        if send.kind == "SUBMIT":
            self._check_submit(intent, send, event)
        if send.kind == "AMEND":
            self._check_amend(intent, send, event)
        if send.kind == "CANCEL" and self.immediate:
            self._check_cancel(intent)
        self._check_halt(intent, send, event)
        self._check_word(intent, send, event)
        if send.kind != "CANCEL" and self.immediate:
            self._check_group(intent, send, event["state_position"])
        intent.sends.append(send)
        self._check_rate(intent, send)

    def _check_rate(self, intent: Intent, send: Send) -> None:
        """Check that the sends of an intent are bounded, whatever its venue does."""
        since_ns = send.stamp_ns - MINUTE_NS
        recent = sum(item.stamp_ns > since_ns for item in intent.sends)
        if recent > SENDS_MAX + 2 * intent.generation:
            self.problem(
                15, f"{intent.intent_id} has {recent} sends within a minute, in generation {intent.generation}"
            )

    def _check_submit(self, intent: Intent, send: Send, event: dict[str, Any]) -> None:
        """Check that this order may be sent now."""
        who = f"{intent.intent_id}'s {send.client_order_id}"
        if intent.desired == "CANCELED" or intent.canceled_for_good:
            self.problem(2, f"{who} is submitted after the cancel")
        if event["generation"] != intent.generation:
            self.problem(2, f"{who} serves generation {event['generation']} of {intent.generation}")
        if intent.intent_id in self._failed:
            self.problem(7, f"{who} is submitted after its strategy was told that it failed")
        if (intent.intent_id, intent.generation) in self._over_for_good and not (intent.void or intent.corrections):
            self.problem(7, f"{who} is submitted after its strategy was told that it is too late to cancel it")
        last = next((item for item in reversed(intent.sends) if item.kind == "SUBMIT"), None)
        if last is None or last.client_order_id != send.client_order_id:
            self._check_alone(intent, send, event)
        if last is None:
            return
        same = last.client_order_id == send.client_order_id
        if not last.no and not self._seen(last.client_order_id) and not (same and self.dedupe == "FOR_EVER"):
            self.problem(7, f"{who} is submitted while {last.client_order_id} is not settled")
        if not same and not self._seen(last.client_order_id) and not self._is_refused(intent, last.client_order_id):
            self.problem(8, f"{who} takes a new id though {last.client_order_id} is not spent")

    def _check_alone(self, intent: Intent, send: Send, event: dict[str, Any]) -> None:
        """Note a submit that could not be told from one that is unknown (H20); a problem once it leaves for the wire."""
        if not self.hides_ids:
            return
        for other in self.intents.values():
            alike = [(item.order["symbol_id"], item.order["side"]) for item in (intent, other)]
            if other is intent or alike[0] != alike[1] or (other.group is not None and other.group is intent.group):
                continue
            unknown = [item for item in other.sends if 0 < item.unknown_at <= event["state_position"]]
            left = [item for item in unknown if not item.no and not self._seen(item.client_order_id)]
            if any(item.kind == "SUBMIT" for item in left):
                send.beside = left[0].client_order_id

    def _check_amend(self, intent: Intent, send: Send, event: dict[str, Any]) -> None:
        """Check that this modify may be sent now."""
        who = f"{intent.intent_id}'s {send.client_order_id}"
        if intent.desired == "CANCELED" or intent.canceled_for_good:
            self.problem(2, f"{who} is amended after the cancel")
        if event["generation"] != intent.generation:
            self.problem(2, f"{who} serves generation {event['generation']} of {intent.generation}")
        open_one = next((item for item in intent.sends if item.kind == "AMEND" and not self._is_settled(item)), None)
        if open_one is not None:
            self.problem(7, f"{who} is amended while {open_one.client_order_id} is not settled")

    def _check_cancel(self, intent: Intent) -> None:
        """Check that no order is canceled only because a modify was rejected.

        Unless a copy of the request changed the order, or the venue works it at a worse price than was requested.
        """
        if intent.intent_id in self.doubled_changes or intent.group is not None:
            return
        orders = self._by_intent[intent.intent_id]
        changes = [item for item in intent.sends if item.kind == "AMEND" and item.generation == intent.generation]
        alone = len(orders) == 1 and orders[0].open and orders[0].cum_qty < intent.order["quantity"]
        price, asked = orders[0].price if alone else None, intent.order.get("price")
        if (
            price is not None
            and asked is not None
            and (price < asked if intent.order["side"] == "SELL" else price > asked)
        ):
            return
        if alone and intent.desired == "WORKING" and changes and all(item.refused for item in changes):
            self.problem(3, f"{intent.intent_id} is canceled, though only a change of it was refused")

    def _is_settled(self, send: Send) -> bool:
        """Whether the log knows what became of an amend: refused, ruled out, or reported; or its order's end is known."""
        if send.no or self._seen(send.client_order_id) or send.position in self._moot:
            return True
        return self._is_over(send)

    def _is_over(self, send: Send) -> bool:
        """Whether the log has the end of the order at which a request aims: by the venue's id, if it names it."""
        client_id, venue_id = send.target
        if venue_id is not None:
            return venue_id in self._over
        orders = [item for item in self.orders.values() if client_id in (item.client_order_id, *item.renamed)]
        return any(item.exchange_order_id in self._over for item in orders)

    def _is_refused(self, intent: Intent, client_order_id: str) -> bool:
        """Whether a send of the id was refused, and none of the others can still arrive."""
        sends = intent.submits(client_order_id)
        return any(item.refused for item in sends) and all(item.no for item in sends)

    def _seen(self, client_order_id: str) -> bool:
        return client_order_id in self._reported

    def _on_AttemptFailed(  # noqa: N802
        self, intent: Intent, event: dict[str, Any], position: int, evidence: str, recorded_at_ns: int
    ) -> None:
        send = self._send_at(intent, event["attempt_position"])
        if send is None:
            return
        if event["outcome"] == "DEAD" and send.left:
            self.problem(7, f"{send.client_order_id} left for the wire, and the log says that it was not sent")
        if event["outcome"] == "REJECTED":
            send.refused = True
            if event.get("code") == TIMESTAMP_REFUSED and event.get("retry_at_ns") is None:
                self.problem(3, f"{send.client_order_id} is over, though only its timestamp was refused")
            if len(intent.submits(send.client_order_id)) == 1:  # else it is said of this send alone (H7)
                self._check_absent(intent, send.client_order_id, "refused")
        send.no = True

    def _on_AttemptResolved(  # noqa: N802
        self, intent: Intent, event: dict[str, Any], position: int, evidence: str, recorded_at_ns: int
    ) -> None:
        send = self._send_at(intent, event["attempt_position"])
        if send is None or event["outcome"] != "DEAD" or send.kind == "CANCEL":
            return
        if send.kind == "AMEND" and self._is_over(send):
            send.no = True
            return
        sends = [item for item in intent.submits(send.client_order_id) if item.position <= send.position]
        for item in sends:
            item.no = True
        if evidence != "QUERY":
            self.problem(7, f"{send.client_order_id} is ruled out by no evidence but {evidence}")
        if any(item.absent_after_ns is None for item in sends if not item.refused):
            self.problem(7, f"{send.client_order_id} is ruled out where a request may arrive at any time")
        until_ns = max((item.absent_after_ns or 0 for item in sends), default=0)
        if (event.get("began_ns") or 0) < until_ns:
            self.problem(7, f"{send.client_order_id} is ruled out by a look that began too early")
        self._check_absent(intent, send.client_order_id, "ruled out")

    def _check_absent(self, intent: Intent, client_order_id: str, verdict: str) -> None:
        """Check that the venue has no order of this id that the log lacks.

        One that ended untraded leaves no trace at a venue without lookup of closed orders.
        """
        if not self.immediate or client_order_id in self.doubled:
            return
        for order in self._by_intent[intent.intent_id]:
            there = (order.open or order.cum_qty) and order.exchange_order_id not in self._last_position
            if order.client_order_id == client_order_id and there:
                self.problem(7, f"{client_order_id} is {verdict} in the log, and at the venue it is {order.status}")

    def _left_a_trace(self, order: Order) -> bool:
        """Whether the log can know of an order: of one that ended without a trade, and all of whose reports were lost,
        nothing is left."""
        return order.open or order.cum_qty > 0 or order.exchange_order_id in self._last_position

    def _send_at(self, intent: Intent, position: int) -> Send | None:
        found = next((item for item in intent.sends if item.position == position), None)
        if found is None:
            self.problem(8, f"{intent.intent_id} has an outcome for position {position}, where no attempt of it is")
        return found

    # ------------------------------------------------------------------------------------------- facts, held against truth
    def _on_OrderAccepted(self, intent: Intent, event: dict[str, Any], *rest: Any) -> None:  # noqa: N802
        self._fact("accepted", event)

    def _on_OrderModified(self, intent: Intent, event: dict[str, Any], *rest: Any) -> None:  # noqa: N802
        self._fact("modified", event)

    def _on_OrderStateObserved(  # noqa: N802
        self, intent: Intent, event: dict[str, Any], position: int, evidence: str, recorded_at_ns: int
    ) -> None:
        what = "closed" if event.get("gone") or event.get("ord_status") in TERMINAL else "observed"
        if evidence == "INFERRED" and event.get("ord_status") == "CANCELED":
            event["ord_status"] = None  # that it ended is known, the reason is marked as a guess (H15)
        self._fact(what, event)

    def _on_OrderCanceled(self, intent: Intent, event: dict[str, Any], *rest: Any) -> None:  # noqa: N802
        self._fact("closed", event | {"ord_status": "CANCELED"})

    def _on_OrderExpired(self, intent: Intent, event: dict[str, Any], *rest: Any) -> None:  # noqa: N802
        self._fact("closed", event | {"ord_status": "EXPIRED"})

    def _on_OrderRejected(self, intent: Intent, event: dict[str, Any], *rest: Any) -> None:  # noqa: N802
        self._fact("closed", event | {"ord_status": "REJECTED"})

    def _on_OrderFilled(  # noqa: N802
        self, intent: Intent, event: dict[str, Any], position: int, *rest: Any
    ) -> None:
        intent.fills[event["fill_key"]] = (event["last_qty"], event["last_px"])
        intent.fees[event["fill_key"]] = event.get("fee") or 0
        intent.fees_position = position
        self._fill_keys.add(event["fill_key"])
        self._fact("filled", event)

    def _on_FillBusted(self, intent: Intent, event: dict[str, Any], *rest: Any) -> None:  # noqa: N802
        intent.void.add(event["ref_fill_key"])

    def _on_FillCorrected(self, intent: Intent, event: dict[str, Any], *rest: Any) -> None:  # noqa: N802
        intent.corrections[event["ref_fill_key"]] = (event["fill_key"], event["last_qty"])
        self._fill_keys.add(event["fill_key"])
        self._fact("corrected", event)

    def _fact(self, what: str, event: dict[str, Any]) -> None:
        for name in ("client_order_id", "orig_client_order_id"):
            if event.get(name):
                self._reported.add(event[name])
        intent = self._intent(event["intent_id"])
        intent.cum_seen = max(intent.cum_seen, event.get("cum_qty") or 0)
        for send in intent.sends:
            asked = (send.terms["quantity"], send.terms.get("price"))
            if send.kind == "AMEND" and (event.get("order_qty"), event.get("price")) == asked:
                self._moot.add(send.position)
        if venue_id := event.get("exchange_order_id"):
            self._last_position.add(venue_id)
            if what == "closed" or event.get("ord_status") == "FILLED":
                self._over.setdefault(venue_id, self._position)
            (self._working.discard if venue_id in self._over else self._working.add)(venue_id)
        if self.immediate:
            self._hold_against_truth(what, event)
        else:
            self._later.append((what, event))

    def _hold_against_truth(self, what: str, event: dict[str, Any]) -> None:
        venue_id = event.get("exchange_order_id")
        orders = self._meant(event)
        named = venue_id or event.get("client_order_id")
        if not orders:
            self.problem(7, f"the log has {what} of {named}, and the venue has no such order")
            return
        if what == "filled" and not self._is_trade(event):
            self.problem(1, f"the log has a fill {event['fill_key']} of {event['last_qty']} that the venue has not")
        elif what == "filled":
            self._check_booking(event)
        if what == "closed" and any(self.false_ends[order.exchange_order_id] for order in orders):
            return  # the venue said so
        if what == "closed" and not any(order.closed_as for order in orders):
            self.problem(7, f"the log has {named} closed, and at the venue it works")
        claimed = event.get("ord_status")
        known = {order.client_order_id for order in orders}  # a triggered stop may report its successor's total and end
        alike = [order for order in self._by_intent[event["intent_id"]] if order.client_order_id in known]
        ends = {status for order in (*orders, *alike) for status in order.closed_as}
        if what == "closed" and claimed in TERMINAL and claimed not in ends:
            statuses = ", ".join(sorted({status for order in orders for status in order.closed_as})) or "open"
            self.problem(7, f"the log has {named} as {claimed}, at the venue it is {statuses}")
        if (event.get("cum_qty") or 0) > max(order.cum_qty_max for order in (*orders, *alike)):
            self.problem(1, f"the log has {event['cum_qty']} filled of {named}, more than the venue ever had")

    def _meant(self, event: dict[str, Any]) -> list[Order]:
        """The venue's orders that a fact is about."""
        if event.get("exchange_order_id"):
            found = self.orders.get(event["exchange_order_id"])
            return [found] if found is not None else []
        named = {event.get("client_order_id"), event.get("orig_client_order_id")}
        return [order for order in self._by_intent[event["intent_id"]] if order.client_order_id in named]

    def _check_booking(self, event: dict[str, Any]) -> None:
        """Check that a fill is booked to its own order, symbol and side."""
        trade = self.trades[event["fill_key"]]
        if trade["exchange_order_id"] != (event.get("exchange_order_id") or trade["exchange_order_id"]):
            self.problem(13, f"the fill {event['fill_key']} is booked to order {event['exchange_order_id']}")
        order = self.orders.get(trade["exchange_order_id"])
        if order is not None and self._owner_of(order) != event["intent_id"]:
            self.problem(13, f"the fill {event['fill_key']} is booked to {event['intent_id']}, another's order")
        if (trade["side"], trade["symbol_id"]) != (event["side"], event["symbol_id"]):
            self.problem(13, f"the fill {event['fill_key']} is booked as {event['side']} {event['symbol_id']}")

    def _is_trade(self, event: dict[str, Any]) -> bool:
        trade = self.trades.get(event["fill_key"])
        return trade is not None and (trade["last_qty"], trade["last_px"]) == (event["last_qty"], event["last_px"])

    def _on_FindingRaised(self, intent: Intent, event: dict[str, Any], *rest: Any) -> None:  # noqa: N802
        finding = event["finding"]
        self.standing[finding["finding_id"]] = finding["kind"]
        if finding["kind"] == "TRADES_GAP":
            self.gap_ns = finding["raised_at_ns"] - LISTED_NS
        if (owner := self.intents.get(finding.get("intent_id") or "")) is not None:
            owner.findings.add(finding["kind"])

    def _on_FindingResolved(  # noqa: N802
        self, intent: Intent, event: dict[str, Any], position: int, evidence: str, *rest: Any
    ) -> None:
        self.standing.pop(event["finding_id"], None)
        if evidence == "OPERATOR":
            self.dealt_with.add(event["finding_id"])

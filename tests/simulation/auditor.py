"""The auditor: keeps its own account of commands, sends, trades and records, and reports every broken invariant.

Fed by the simulation and by the drill with plain data: rows of the log as stored, requests as sent, the venue's true
orders and trades, and the answers that strategies received. It imports nothing of the kernel. The numbers of its problems
are those of the invariants:

    1 fills in the log are the venue's          5 every acknowledged command, and trade, is in the log
    2 at most one live order per intent, never  6 nothing is sent that was not logged first, under the lease, in time
      more than its quantity working and filled 7 no terminal status without evidence; a ruled-out send stays ruled out
    3 when faults stop, every intent converges  8 the log itself: no gap, one epoch at a time, ids by the rules, and
    4 a rebuild equals the live state             each subscriber receives every row once

9 to 12 are about halts, external orders, heartbeats and operators: see `bystander_audit`. About odd venues, and brackets
(`bracket_audit`):

    13 a fill is booked to its own order, symbol and side
    14 a bracket's exits never exceed what its entry left to sell, and none is missing without a finding
    15 the sends of an intent are bounded in each minute
    16 no order of ours that is open at the venue stays unwatched once faults have stopped
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from tests.simulation.account import Group, Intent, Order, Send
from tests.simulation.bracket_audit import BracketAudit
from tests.simulation.log_audit import MINUTE_NS, TERMINAL, UNDONE_MAX

ONE_SHOT = ("IOC", "FOK")


class Auditor(BracketAudit):
    """Watches one log and one venue account."""

    # ---------------------------------------------------------------------------------------------------------- the wire
    def sent(
        self,
        *,
        at_ns: int,
        op: str,
        client_order_id: str,
        symbol_id: str,
        stamp_ns: int,
        valid_until_ns: int | None,
        target_client_order_id: str | None = None,
        target_exchange_order_id: str | None = None,
        side: str | None = None,
        quantity: int | None = None,
        price: int | None = None,
        leads: bool = True,
    ) -> None:
        """A request is sent. `at_ns` is its kernel's clock; `leads`: whether that kernel holds the lease."""
        kind = {"modify": "AMEND"}.get(op, op.upper())
        found = [item for item in self._sends_of(client_order_id) if item.kind == kind and item.stamp_ns == stamp_ns]
        if not found:
            self.problem(6, f"{op} {client_order_id} was sent and is not in the log")
            return
        send = found[-1]
        if send.left:
            self.problem(6, f"{op} {client_order_id}, logged at {send.position}, was sent twice")
        send.left = True
        if send.beside:
            self.problem(7, f"{client_order_id} is submitted while {send.beside}, of its symbol and side, is unknown")
        if send.no:
            self.problem(6, f"{op} {client_order_id} was sent after the log had its outcome")
        if not leads:
            self.problem(6, f"{op} {client_order_id} was sent without the lease")
        if at_ns >= send.send_by_ns:
            self.problem(6, f"{op} {client_order_id} was sent {at_ns - send.send_by_ns} ns too late")
        self._check_terms(send, symbol_id, side, quantity, price, valid_until_ns)
        if kind != "SUBMIT":
            self._check_left_alone(op, target_exchange_order_id)
        if kind != "SUBMIT" and send.target != (target_client_order_id, target_exchange_order_id):
            self.problem(6, f"{op} {client_order_id} aims at another order than the log says")

    def unsent(self, *, client_order_id: str, stamp_ns: int) -> None:
        """A request reported to `sent` was not sent after all."""
        for send in self._sends_of(client_order_id):
            send.left = send.left and send.stamp_ns != stamp_ns

    def _check_terms(self, send: Send, symbol_id: str, *given: Any) -> None:
        side, quantity, price, valid_until_ns = given
        if valid_until_ns != send.valid_until_ns:
            self.problem(6, f"{send.client_order_id} is valid until {valid_until_ns}, in the log {send.valid_until_ns}")
        if symbol_id != send.terms["symbol_id"]:
            self.problem(6, f"{send.client_order_id} is for {symbol_id}, in the log {send.terms['symbol_id']}")
        if send.kind == "CANCEL":
            return
        logged = (send.terms["side"], send.terms["quantity"], send.terms.get("price"))
        if (side, quantity, price) != logged:
            self.problem(6, f"{send.client_order_id} was sent as {(side, quantity, price)}, in the log {logged}")

    def _sends_of(self, client_order_id: str) -> list[Send]:
        owner = self._owner.get(client_order_id)
        intents = [self.intents[owner]] if owner in self.intents else list(self.intents.values())
        return [send for intent in intents for send in intent.sends if send.client_order_id == client_order_id]

    # --------------------------------------------------------------------------------------------------- the venue's truth
    def venue_order(self, order: Mapping[str, Any]) -> None:
        """The state of one of the kernel's orders at the venue now."""
        client_id = order["client_order_id"]
        known = self.orders.get(order["exchange_order_id"])
        if known is None:
            known = Order(order["exchange_order_id"], client_id, order["quantity"], order["price"], order["symbol_id"])
            self.orders[known.exchange_order_id] = known
            self._by_intent[self._owner_of(known)].append(known)
            if known.exchange_order_id not in self.foreign:
                self._check_new(known)
        if client_id != known.client_order_id:
            known.renamed.add(client_id)
        self._check_change(known, order)
        known.grew = known.grew or (bool(known.closed_as) and not known.open and order["cum_qty"] > known.cum_qty)
        if known.open or not known.closed_as:
            known.closed_position = self._position
        known.status, known.cum_qty, known.quantity = order["status"], order["cum_qty"], order["quantity"]
        known.cum_qty_max, known.price = max(known.cum_qty_max, known.cum_qty), order["price"]
        if not known.open:
            known.closed_as.add(known.status)
            if not known.ended_ns:
                known.ended_ns = self.now_ns
                self._check_undone(self.intents.get(self._owner_of(known)))
        self._check_exposure(self._owner_of(known) or self._owner.get(client_id, ""))
        self._check_limits()

    def _check_undone(self, intent: Intent | None) -> None:
        """Check that what the venue ends at once is not placed again without end (H24)."""
        if intent is None or intent.group is not None or intent.order["order_type"] != "LIMIT":
            return
        orders = [item for item in self._by_intent[intent.intent_id] if "EXPIRED" in item.closed_as]
        recent = sum(item.ended_ns > self.now_ns - MINUTE_NS for item in orders)
        if intent.order["time_in_force"] == "GTC" and recent > UNDONE_MAX + 2 * (intent.generation - 1):
            self.problem(15, f"{intent.intent_id} was placed {recent} times within a minute, and ended each time")

    def _check_change(self, known: Order, order: Mapping[str, Any]) -> None:
        """Check that new terms of a venue order are those of a modify in flight."""
        if (known.quantity, known.price) == (order["quantity"], order["price"]):
            return
        if not (owner := self._owner_of(known)):
            self.problem(10, f"the venue changes {known.exchange_order_id}, which nobody has adopted")
            return
        intent = self.intents[owner]
        if intent.intent_id in self.doubled_changes or (intent.group is not None and intent.group.native):
            return
        if known.exchange_order_id in self.reduced and known.price == order["price"]:
            return  # the venue itself reduced it
        amends = [item for item in intent.aimed(known, "AMEND") if item.left]
        if not any(not item.no and self._worked(item.terms.get("price")) == order["price"] for item in amends):
            self.problem(
                7, f"the venue changes {known.exchange_order_id} of {intent.intent_id}, which the log has ruled out"
            )

    def _worked(self, price: int | None) -> int | None:
        """The price at which the venue works an order that is sent with this one."""
        return self.personality.rounded(price) if self.personality is not None else price

    def _check_new(self, order: Order) -> None:
        client_id = order.client_order_id
        owner = self._owner.get(client_id)
        if owner is None:
            self.problem(6, f"the venue has an order {client_id} that is not in the log")
            return
        if client_id in self.doubled or owner in self.doubled_changes:
            return
        sends = self.intents[owner].submits(client_id)
        out = [item for item in sends if item.left and not self._ruled_out(item, sends)]
        if not out:
            self.problem(7, f"the venue takes {client_id} of {owner}, which the log has ruled out")
        if owner in self._failed:
            self.problem(7, f"the venue takes {client_id} of {owner}, whose strategy was told that it failed")

    def _ruled_out(self, send: Send, sends: list[Send]) -> bool:
        """Whether the log rules out any effect of this send. A rejection does not rule out an earlier send (H7)."""
        if not send.no:
            return False
        if not send.refused:
            return True
        earlier = [item for item in sends if item.position < send.position and item.left and not item.no]
        return not earlier

    def _check_exposure(self, intent_id: str) -> None:
        orders = self._by_intent[intent_id]
        intent = self.intents.get(intent_id)
        if intent is None or any(order.reopened or order.grew or (order.renamed and self.on_top) for order in orders):
            return
        if intent_id in self.doubled_changes:
            return
        self._check_released(intent)
        live = [order.exchange_order_id for order in orders if order.open]
        most = sum(order.quantity if order.open else order.cum_qty for order in orders)
        false = [order.quantity * self.false_ends[order.exchange_order_id] for order in orders]
        if len(live) <= 1 + sum(map(bool, false)) and most <= intent.most_wanted + sum(false):
            return
        if any(order.client_order_id in self.doubled for order in orders):
            intent.exceeded = True  # no kernel can prevent it (H9); it must be told and contained
        elif len(live) > 1:
            self.problem(2, f"{intent_id} has {len(live)} live orders: {', '.join(live)}")
        else:
            self.problem(2, f"{intent_id} has {most} working or filled, {intent.most_wanted} were wanted at most")

    def _check_limits(self) -> None:
        """Check open orders and trades against the limits, without duplicates by the network or the venue, and busts."""
        if not self.limits or self.doubled or self.doubled_changes or self.foreign:
            return
        if any(order.reopened or order.grew or order.cum_qty < order.cum_qty_max for order in self.orders.values()):
            return
        if any(item.void or item.corrections for item in self.intents.values()):
            return
        for symbol_id in {item.order["symbol_id"] for item in self.intents.values()}:
            self._check_sums(symbol_id)

    def _check_sums(self, symbol_id: str) -> None:
        orders = [
            (order, item.order["side"])
            for item in self.intents.values() if item.order["symbol_id"] == symbol_id
            for order in self._by_intent[item.intent_id]
        ]  # fmt: skip
        count = sum(order.open for order, _ in orders)
        if count > self.limits.get("open_orders_max", count):
            self.problem(6, f"{count} orders work in {symbol_id}, the limit is {self.limits['open_orders_max']}")
        position = sum(order.cum_qty * (1 if side == "BUY" else -1) for order, side in orders)
        if abs(position) > self.limits.get("position_max", abs(position)):
            self.problem(6, f"the position in {symbol_id} is {position}, the limit is {self.limits['position_max']}")

    def _check_released(self, intent: Intent) -> None:
        """Check that no more of a child order works than its parent was ever reported to have filled."""
        group = intent.group
        if group is None or group.mode != "ONE_TRIGGERS_OTHER" or group.leads(intent) or group.native:
            return
        orders = self._by_intent[intent.intent_id]
        if any(order.reopened or order.grew or order.client_order_id in self.doubled for order in orders):
            return
        most = sum(order.quantity if order.open else order.cum_qty for order in orders)
        leader = group.members[0]
        released = max(sum(order.cum_qty_max for order in self._by_intent[leader.intent_id]), leader.reported)
        if most > released:
            self.problem(2, f"{intent.intent_id} has {most} working or filled, its leader has filled {released}")

    def venue_trade(self, trade: Mapping[str, Any]) -> None:
        """The state of one of the kernel's trades at the venue now."""
        self.trades.setdefault(trade["fill_key"], {**trade, "seen_ns": self.now_ns})

    def truth(self, truth: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
        """Everything at once."""
        for trade in truth["trades"]:
            self.venue_trade(trade)
        for order in truth["orders"]:
            self.venue_order(order)

    def recorded(self, fill_key: str) -> None:
        """A kernel told the adapter that it has recorded a trade."""
        if fill_key not in self._fill_keys:
            self.problem(5, f"the adapter is told that the trade {fill_key} is recorded, and it is not in the log")

    # -------------------------------------------------------------------------------------------------------- strategies
    def acknowledged(self, *, kind: str, intent_id: str) -> None:
        """A command was answered without an error."""
        self._acknowledged.append((kind, intent_id))
        if self.immediate:
            self._check_acknowledged(kind, intent_id)
        if kind == "cancel" and intent_id in self.intents:
            self.intents[intent_id].canceled_for_good = True

    def _check_acknowledged(self, kind: str, intent_id: str) -> None:
        intent = self.intents.get(intent_id)
        if intent is None:
            self.problem(5, f"{kind} {intent_id} was acknowledged and is not in the log")
            return
        ended = not any(order.open for order in self._by_intent[intent_id])
        if kind == "cancel" and intent.desired != "CANCELED" and not ended:
            self.problem(5, f"cancel {intent_id} was acknowledged, is not in the log, and an order of it works")

    def refused(self, *, intent_id: str, generation: int) -> None:
        """A strategy was told by a kernel without a later generation that its order failed."""
        if self._intent(intent_id).generation > generation:
            return  # it was changed meanwhile
        if any(send.kind == "AMEND" for send in self._intent(intent_id).sends):
            return  # what was refused is a change; the order may work as it was
        self._failed.add(intent_id)
        live = [
            order for order in self._by_intent[intent_id] if order.open and order.client_order_id not in self.doubled
        ]
        if self.immediate and live and not any(order.reopened for order in live):
            self.problem(7, f"{intent_id} failed, its strategy was told, and order {live[0].exchange_order_id} works")

    def too_late(self, *, intent_id: str, generation: int) -> None:
        """A strategy was told that it is too late to cancel."""
        if any(self.false_ends[order.exchange_order_id] for order in self._by_intent[intent_id]):
            return  # the venue had told the kernel so
        self._over_for_good.add((intent_id, generation))

    def read(self, *, intent_id: str, ord_status: str, cum_qty: int, reconciliation_status: str) -> None:
        """The answer of a query about an order, now."""
        orders = self._by_intent[intent_id]
        most = max(sum(order.cum_qty_max for order in orders), self._intent(intent_id).reported)
        if cum_qty > most and self.immediate:
            self.problem(1, f"{intent_id} shows {cum_qty} filled, the venue never had more than {most}")
        live = [order for order in orders if order.open]
        explained = self.doubled | {order.client_order_id for order in live if self.false_ends[order.exchange_order_id]}
        unexplained = [order for order in live if order.client_order_id not in explained and not order.reopened]
        at_rest = reconciliation_status in ("SYNCED", "FAILED")
        known = [order for order in unexplained if at_rest or order.exchange_order_id in self._working]
        if ord_status in TERMINAL and known and self.immediate:
            self.problem(7, f"{intent_id} shows {ord_status}, and {known[0].exchange_order_id} works")

    def watches(self, *, watcher: str, after: int) -> None:
        """A strategy subscribed to all that follows a position."""
        self._watched[watcher] = after

    def heard(self, *, watcher: str, position: int) -> None:
        """A subscriber received an event."""
        last = self._watched[watcher]
        if position != last + 1:
            self.problem(8, f"{watcher} is told of position {position} after {last}")
        if position > self._position:
            self.problem(8, f"{watcher} is told of position {position}, the log ends at {self._position}")
        self._watched[watcher] = position

    def is_behind(self, watcher: str) -> bool:
        """Whether a subscriber has not received everything yet."""
        return self._watched[watcher] != self._position

    # ------------------------------------------------------------------------------------------------------------ the end
    def digests(self, digests: Mapping[str, str]) -> None:
        """Digests of states folded from the same log, by name: all equal."""
        if len(set(digests.values())) > 1:
            shown = ", ".join(f"{name} {digest[:12]}" for name, digest in digests.items())
            self.problem(4, f"states folded from one log differ: {shown}")

    def positions(self, positions: Mapping[str, int]) -> None:
        """Check the kernel's positions against the venue's trades."""
        expected: dict[str, int] = defaultdict(int)
        for trade in self._final_trades.values():
            if trade["exchange_order_id"] in self.foreign - self._adopted.keys():
                continue  # it moves the balances, and no position
            expected[trade["symbol_id"]] += trade["last_qty"] * (1 if trade["side"] == "BUY" else -1)
        for symbol_id in sorted({*expected, *positions}):
            if positions.get(symbol_id, 0) != expected[symbol_id]:
                text = (
                    f"the position in {symbol_id} is {positions.get(symbol_id, 0)}, by the venue {expected[symbol_id]}"
                )
                self.problem(1, text)

    def finish(self, truth: Mapping[str, Iterable[Mapping[str, Any]]], read: Iterable[Mapping[str, Any]]) -> None:
        """Faults have stopped and everything had its time. `read` is what queries show of each intent now."""
        self.truth(truth)
        self._final_trades = {trade["fill_key"]: dict(trade) for trade in truth["trades"]}
        self._forget_unlisted()
        self._disown_unnamed()
        for what, event in self._later:
            self._hold_against_truth(what, event)
        for kind, intent_id in self._acknowledged:
            self._check_acknowledged(kind, intent_id)
        shown = {item["intent_id"]: item for item in read}
        for intent in self.intents.values():
            self._check_fills(intent)
            self._check_converged(intent, shown.get(intent.intent_id))
            self._check_contained(intent)
        for group in self.groups.values():
            self._check_excess(group)
            self._check_exits(group, self._filled(group))
        unknown = [name for name, item in shown.items() if item["reconciliation_status"] == "UNKNOWN"]
        self._check_foreign({self.intents[name].order["symbol_id"] for name in unknown})
        self._check_silences()
        for finding_id, kind in self.standing.items():
            if kind in ("BALANCE_DRIFT", "POSITION_DRIFT") and not self.gap_ns:
                self.problem(1, f"finding {finding_id} stands, though every fill is known")

    def _forget_unlisted(self) -> None:
        """Take out the trades that the venue had dropped from its list when the kernel came back, if a finding said so."""
        for fill_key, trade in [*self._final_trades.items()]:
            if self.trades[fill_key]["seen_ns"] < self.gap_ns and fill_key not in self._fill_keys:
                del self._final_trades[fill_key]
                self.orders[trade["exchange_order_id"]].cum_qty -= trade["last_qty"]

    def _disown_unnamed(self) -> None:
        """Take the copies that the network made of a request for external orders, if the venue has shown no more of them
        than lists or trades without client order id: nothing tells whose they are. `_check_foreign` asks for the finding.

        That is so if another order under the id was shown, or if the request itself was refused: then only a copy traded.
        """
        shown = self.personality.names if self.personality is not None else frozenset()
        unnamed_open = "unnamed-orders" in shown and not self.looks_up
        for intent in self.intents.values():
            orders = self._by_intent[intent.intent_id]
            for client_id in self.doubled & {item.client_order_id for item in orders}:
                copies = [item for item in orders if item.client_order_id == client_id]
                hidden = [item for item in copies if not self.is_known(item.exchange_order_id)]
                explained = len(copies) > len(hidden) or self._is_refused(intent, client_id)
                for order in hidden if explained else ():
                    if unnamed_open if order.open else ("unnamed-trades" in shown and order.cum_qty):
                        orders.remove(order)
                        self.foreign.add(order.exchange_order_id)
                        intent.exceeded = False

    def _filled(self, group: Group) -> dict[str, int]:
        """The filled quantity of each member at the venue."""
        return {
            item.intent_id: sum(order.cum_qty for order in self._by_intent[item.intent_id]) for item in group.members
        }

    def _check_excess(self, group: Group) -> None:
        """Check that a group's overfill has its finding and stays within the bound of a pure race."""
        if not group.members:
            return
        filled = self._filled(group)
        finding_id = f"GROUP_OVERFILL:{group.group_id}"
        excess, told = group.excess(filled), finding_id in self.standing
        if finding_id in self.dealt_with:
            return
        if excess and not told:
            self.problem(2, f"{group.group_id} has {excess} more filled than its mode allows, and no finding says so")
        if told and not excess and group.mode != "ONE_CANCELS_OTHER":
            self.problem(2, f"{group.group_id} has a finding that more has filled than its mode allows, and it has not")
        orders = [order for item in group.members for order in self._by_intent[item.intent_id]]
        if any(order.client_order_id in self.doubled or (order.closed_as and order.grew) for order in orders):
            return
        if any(item.void or item.corrections or item.intent_id in self.doubled_changes for item in group.members):
            return
        most = [item.most_wanted for item in group.members]
        spared = {"ONE_CANCELS_OTHER": min, "ONE_UPDATES_OTHER": max}.get(group.mode, lambda wanted: wanted[0])
        if excess > max(0, sum(most) - spared(most)):
            self.problem(2, f"{group.group_id} has {excess} more filled than its mode allows, beyond any race")

    def _allowed(self, intent: Intent, working: int = 0) -> int:
        """The quantity that the group permits at the end, where the intent has `working` filled and open."""
        group = intent.group
        if group is None:
            return int(intent.order["quantity"])
        filled = self._filled(group)
        if group.native and any(self._by_intent[item.intent_id] for item in group.members):
            return sum(order.quantity if order.open else order.cum_qty for order in self._by_intent[intent.intent_id])
        if group.mode == "ONE_CANCELS_OTHER":  # a fill that was busted has canceled the others all the same
            for item in group.members:
                filled[item.intent_id] = max([item.cum_seen, *(o.cum_qty_max for o in self._by_intent[item.intent_id])])
        if group.is_exit(intent):
            return self.exit_quantity(intent, filled, working)
        return group.allowed(intent, filled, released=filled[group.members[0].intent_id])

    def _is_contested(self, intent: Intent) -> bool:
        """Whether a sibling filled as well: the log decides which was first and may continue."""
        group = intent.group
        if group is None or group.mode != "ONE_CANCELS_OTHER":
            return False
        return any(item.cum_seen or item.fills for item in group.others(intent))

    def _check_fills(self, intent: Intent) -> None:
        orders = {order.exchange_order_id for order in self._by_intent[intent.intent_id]}
        trades = [trade for trade in self._final_trades.values() if trade["exchange_order_id"] in orders]
        there = sum(trade["last_qty"] for trade in trades)
        if intent.filled != there:
            self.problem(1, f"{intent.intent_id}: the log has {intent.filled} filled, the venue {there}")

    def _may_stay_unknown(self, intent: Intent) -> bool:
        """Whether nothing can ever prove a request's outcome (H5).

        No window, and no id that is accepted only once; or such an id, but the order is canceled or filled.
        """
        if self.window_ns is not None:
            return False
        if intent.filled >= self._allowed(intent):
            return True
        refused = any(item.refused and item.generation == intent.generation for item in intent.sends)
        return self.dedupe != "FOR_EVER" or refused or not self._is_wanted(intent) or not self._fits(intent)

    def _fits(self, intent: Intent) -> bool:
        """Whether its price is one that the market takes now."""
        return (intent.order.get("price") or 0) % self.ticks.get(intent.order["symbol_id"], 1) == 0

    def _is_wanted(self, intent: Intent) -> bool:
        return intent.desired == "WORKING" and not self._ended(intent)

    def _ended(self, intent: Intent, *, by_id: bool = False) -> bool:
        """Whether the order ended at the venue or by its own terms.

        An order that ended untraded, at a venue without lookup of closed orders, need not be known; `by_id`: it must be, if
        the log has its client order id.
        """
        for order in self._by_intent[intent.intent_id]:
            made = intent.submits(order.client_order_id) + [
                item for item in intent.aimed(order, "AMEND") if item.client_order_id in order.renamed
            ]
            generations = [item.generation for item in made] + [1] * (order.exchange_order_id in self._adopted)
            if order.open or not order.closed_as & {"CANCELED", "EXPIRED"} or intent.generation not in generations:
                continue
            if order.exchange_order_id not in self._last_position and not (
                by_id and order.client_order_id in self._reported
            ):
                continue
            # Where an old list shows it open once more, a cancel may be sent after its end.
            # A request before the log knew the end counts too: when and why an order ended that was forgotten, or whose end
            # was not reported, nobody tells.
            known = max(order.closed_position, self._over.get(order.exchange_order_id, self._position))
            solicited = any(item.position <= known for item in intent.aimed(order, *self.ending))
            once = intent.order.get("time_in_force") in ONE_SHOT or intent.order.get("order_type") == "MARKET"
            if intent.group is not None and intent.group.is_exit(intent):
                if once and not solicited:
                    return True
                continue  # an end by the venue does not end it
            if (once and "EXPIRED" in order.closed_as) or (not solicited and (once or not intent.recreate)):
                return True
        return by_id and self._is_stopped_falsely(intent)

    def _check_converged(self, intent: Intent, shown: Mapping[str, Any] | None) -> None:
        name = intent.intent_id
        orders = self._by_intent[name]
        live = [order for order in orders if order.open]
        filled = sum(order.cum_qty for order in orders)
        status = shown["reconciliation_status"] if shown else "PENDING"
        working = sum(order.quantity - order.cum_qty for order in live) + filled
        wanted = self._allowed(intent, working)
        if shown is None and not intent.sends and (intent.desired == "CANCELED" or wanted == 0):
            return
        self._check_gone_on(intent, status)
        if status == "UNKNOWN" and self._may_stay_unknown(intent):
            return
        if self.is_halted(intent.order["symbol_id"]) and self._is_wanted(intent):
            return  # it waits for the halt's end
        lacks = not live or working < self._allowed(intent, intent.order["quantity"])
        tried_for_ever = (status == "BACKING_OFF" and self._is_tried_for_ever(intent)) or (
            status in ("PENDING", "BACKING_OFF") and self._waits_for_tick(intent)
        )
        # Between a cancel and the next submit of an order whose terms the venue changes each time.
        tried_for_ever |= status == "PENDING" and lacks and f"VENUE_DISAGREES:{name}" in self.standing
        if status not in ("SYNCED", "FAILED") and not tried_for_ever:
            self.problem(3, f"{name} ends {status}")
        if shown and shown["cum_qty"] != filled:
            self.problem(1, f"{name} shows {shown['cum_qty']} filled, the venue has {filled}")
        if len(live) > 1:
            self.problem(3, f"{name} ends with {len(live)} live orders")
        if self._is_contested(intent):
            return
        if live:
            self._check_working(intent, live[0], filled, status, wanted=wanted)
        elif tried_for_ever or status == "FAILED":
            pass
        elif self._is_wanted(intent) and filled < wanted and not self._ended(intent, by_id=True):
            self.problem(3, f"{name} wants {wanted}, has {filled}, and nothing works")
        if live and shown and shown["ord_status"] in TERMINAL:
            self.problem(7, f"{name} ends as {shown['ord_status']}, and {live[0].exchange_order_id} works")

    def _is_stopped_falsely(self, intent: Intent) -> bool:
        """Whether its order was canceled after the log had a false end of it: an end that a query confirmed stays in force.

        That a query must have confirmed it is not followed here.
        """
        return not intent.recreate and any(
            item.position > self._over.get(order.exchange_order_id, self._position)
            for order in self._by_intent[intent.intent_id]
            if self.false_ends[order.exchange_order_id] and not order.open
            for item in intent.aimed(order, "CANCEL")
        )

    def _check_working(self, intent: Intent, order: Order, filled: int, status: str, *, wanted: int) -> None:
        """Check that an order that works at the end is wanted, and has the terms that are wanted."""
        if (not self._is_wanted(intent) or filled >= wanted) and not order.reopened:
            unwatched = 16 if self.false_ends[order.exchange_order_id] else 3
            self.problem(unwatched, f"{intent.intent_id} is not wanted any more, and {order.exchange_order_id} works")
        self._check_terms_at_the_end(intent, order, filled, status, wanted=wanted)

    def _is_tried_for_ever(self, intent: Intent) -> bool:
        """Whether it is a bracket's exit that the venue refuses, or works at other terms: it is tried again for ever.

        A finding says so: that the venue disagrees about the exit that works, or that none works (see `_check_exits`), or
        only a part of it, as the venue refuses to enlarge it.
        """
        group = intent.group
        if group is None or not group.is_exit(intent):
            return False
        if (live := [order for order in self._by_intent[intent.intent_id] if order.open]) and self._is_rounded(live[0]):
            return f"VENUE_DISAGREES:{intent.intent_id}" in self.standing
        last = next((item for item in reversed(intent.sends) if item.kind != "CANCEL"), None)
        if last is None or not last.refused or last.generation != intent.generation:
            return False
        if live:
            return last.kind == "AMEND" and f"EXIT_MISSING:{group.group_id}" in self.standing
        return last.kind == "SUBMIT"

    def _waits_for_tick(self, intent: Intent) -> bool:
        """Whether it is a bracket's exit at a price that the changed tick size forbids: it is placed, or changed, later.

        A finding says so if none of the bracket's exits works (see `_check_exits`).
        """
        return intent.group is not None and intent.group.is_exit(intent) and not self._fits(intent)

    def _is_rounded(self, order: Order) -> bool:
        """Whether the venue works an order at another price than it was sent with."""
        sends = self.intents[self._owner_of(order)].sends
        return any(
            item.kind != "CANCEL" and item.terms.get("price") != order.price == self._worked(item.terms.get("price"))
            for item in sends
        )

    def _check_terms_at_the_end(self, intent: Intent, order: Order, filled: int, status: str, *, wanted: int) -> None:
        if status == "FAILED" and intent.aimed(order, "AMEND"):
            return  # a change that was refused leaves it as it was
        working = order.quantity - order.cum_qty + filled
        if not self._is_wanted(intent) or order.reopened:
            return
        if self._is_tried_for_ever(intent) or ("VENUE_DISAGREES" in intent.findings and status == "FAILED"):
            return  # it works what it works, and the finding says so
        if self._waits_for_tick(intent):
            return
        if (working, order.price) != (wanted, intent.order.get("price")):
            asked = f"{wanted} at {intent.order.get('price')}"
            self.problem(3, f"{intent.intent_id} works for {working} at {order.price}, wanted is {asked}")

    def _check_contained(self, intent: Intent) -> None:
        """Check that a duplicate by the network has its finding if it left more than one order."""
        traced = [order for order in self._by_intent[intent.intent_id] if self._left_a_trace(order)]
        if intent.exceeded and len(traced) > 1 and not intent.findings & {"DUPLICATE_ORDER", "LATE_ACCEPT", "OVERFILL"}:
            self.problem(2, f"{intent.intent_id} had more than was wanted by a doubled request, and no finding says so")

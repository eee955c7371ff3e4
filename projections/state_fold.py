"""How each event changes a state. Called by `State`.

Synchronous and without a clock: the same events always give the same state. The cost of a batch depends on the batch
alone, never on the number of live intents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kernel import events
from kernel.errors import IntegrityError
from kernel.groups import Group
from kernel.lifecycle.attribution import OrderRequest, order_requests, stop_requests
from kernel.lifecycle.evolve import evolve
from kernel.lifecycle.findings import finding_id
from kernel.lifecycle.order_identity import has_id, has_terms_of, holds_trade
from kernel.lifecycle.orders.order_facts import NONE_SETTLED, has_same_trades
from kernel.lifecycle.record import Record
from kernel.lifecycle.settled_orders import recalled, with_settled
from kernel.models import AttemptOutcome, Evidence, FindingKind, LookScope, OrderIntent
from kernel.order_spec import STOPPED
from kernel.safety import heartbeat
from kernel.safety.heartbeat import HeartbeatEvent
from projections.folds import ledger
from projections.folds.external_orders import reversal
from projections.state_data import DEAD_MAX, StateData

INTENT_PREFIX_LENGTH = len(events.INTENT_STREAM_PREFIX)

Observer = Callable[[events.BaseEvent, Record | None, Record | None], None]
"""Called after each event that is folded; for one in an intent's stream, with its record before and after."""


class Fold:
    """Changes the data of one state."""

    def __init__(self, data: StateData, observer: Observer | None) -> None:
        self._data = data
        self.observer = observer
        self.streams: frozenset[str] | None = None
        """The only streams that are folded; None: all."""

    def apply(self, part: Sequence[events.BaseEvent]) -> dict[str, None]:
        """Fold events that follow `position`; returns the intents that they touch, in order. Raises `IntegrityError`."""
        data = self._data
        if missing := data.missing(part):
            raise IntegrityError(
                f"the stream {min(missing)} was evicted: pass its events as `rehydrated`", position=part[0].position
            )
        touched: dict[str, None] = {}
        for event in part:
            envelope = event.envelope
            if envelope.position != data.position + 1:
                raise IntegrityError(f"the next event has position {envelope.position}", position=data.position + 1)
            if self.streams is None or envelope.stream_id in self.streams:
                self.fold(event, envelope, touched)
            data.position = envelope.position
        return touched

    def fold(self, event: events.BaseEvent, envelope: events.Envelope, touched: dict[str, None]) -> None:
        """Fold one event; adds the intents that it changes to `touched`."""
        stream_id = envelope.stream_id
        before: Record | None = None
        after: Record | None = None
        if stream_id.startswith(events.INTENT_STREAM_PREFIX):
            before, after = self._apply_to_intent(stream_id[INTENT_PREFIX_LENGTH:], event, envelope, touched)
        elif stream_id.startswith(events.GROUP_STREAM_PREFIX):
            self._apply_to_group(stream_id.removeprefix(events.GROUP_STREAM_PREFIX), event, touched)
        else:
            if stream_id == events.VENUE_STREAM:
                self._data.venue_version = envelope.version
            if (fold := FOLDS.get(type(event))) is not None:
                fold(self, event)
        if self.observer is not None:
            self.observer(event, before, after)

    def _apply_to_intent(
        self, intent_id: str, event: events.BaseEvent, envelope: events.Envelope, touched: dict[str, None]
    ) -> tuple[Record, Record]:
        data = self._data
        if (known := data.records.get(intent_id)) is None and type(event) is events.IntentCreated:
            intent_id = event.intent.intent_id  # one string for the record and all mappings
        before = known or data.record(intent_id)
        if before.settled is not NONE_SETTLED:
            before = recalled(before, event)
        after = evolve(before, event)
        data.records[intent_id] = with_settled(after)
        data.derived.pop(intent_id, None)
        touched[intent_id] = None
        group = data.groups.of(intent_id) if data.groups.by_id else None
        changed = self._apply_orders(before, after, event, group) if after.orders is not before.orders else []
        if after.intent is not before.intent:
            data.indexes.refile(before, after)
        if (fold := INTENT_FOLDS.get(type(event))) is not None:
            fold(self, before, event)
        elif after.intent is not before.intent and group is not None:
            changed.append(group)
        if group is not None or changed:
            self._refresh_groups(intent_id, changed, envelope.recorded_at_ns, touched)
        return before, after

    def _apply_orders(self, before: Record, after: Record, event: events.BaseEvent, group: Group | None) -> list[Group]:
        """Apply what an event changed in an intent's orders; returns the groups that it changed."""
        data = self._data
        data.indexes.put_orders(before, after)
        if data.externals.entries:
            self._adopt(after, event)
        for facts in (*before.orders, *after.orders):
            if facts.order.order_type in STOPPED:
                self._note_stops(before, after)
                break
        booked = self._book(before, after, event)
        return self._book_groups(before, after, booked, group) if booked or group is not None else []

    def _refresh_groups(self, intent_id: str, changed: Sequence[Group], at_ns: int, touched: dict[str, None]) -> None:
        """Note what the orders of the changed groups show, and of the bracket that an intent belongs to."""
        data, own = self._data, self._data.groups.of(intent_id)
        for group in (*changed, *(() if own is None or own.parent is None else (own,))):
            data.groups.put(data.refreshed(data.groups.by_id[group.group_id], at_ns=at_ns))
        for group in changed:
            self._touch_group(group, touched)

    def _note_rejection(self, before: Record, event: events.BaseEvent) -> None:
        if (storm := self._data.storms.apply(before, event)) is not None:
            self._data.trading_status = self._data.trading_status.stormy(*storm)

    def _note_dead(self, before: Record, event: events.AttemptResolved) -> None:
        """Keep a request for an order that is resolved as DEAD."""
        attempt = before.attempt_at(event.attempt_position)
        if event.outcome is not AttemptOutcome.DEAD or attempt is None:
            return
        kept = self._data.dead_requests
        for request in order_requests(before):
            if request.client_order_id == attempt.client_order_id:
                first = kept.get(request.client_order_id, request)
                self._keep_dead(request._replace(position=first.position, stamp_ns=first.stamp_ns))

    def _note_stops(self, before: Record, after: Record) -> None:
        """Keep the stops that ended and may have triggered, until the order that followed is known."""
        kept = self._data.dead_requests
        known, now = ({item.client_order_id: item for item in stop_requests(record)} for record in (before, after))
        for name in known.keys() - now.keys():
            kept.pop(name, None)
        for name, request in now.items():
            if name not in known or name in kept:
                self._keep_dead(request)

    def _keep_dead(self, request: OrderRequest) -> None:
        kept = self._data.dead_requests
        kept[request.client_order_id] = request
        if len(kept) > DEAD_MAX:
            del kept[next(iter(kept))]

    def _apply_to_group(self, group_id: str, event: events.BaseEvent, touched: dict[str, None]) -> None:
        self._data.groups.apply(group_id, event)
        if isinstance(event, events.FindingRaised | events.FindingResolved):
            self._data.findings.apply(event)
        if (group := self._data.groups.by_id.get(group_id)) is None:
            return
        is_overfill = isinstance(event, events.FindingResolved) and event.finding_id == finding_id(
            FindingKind.GROUP_OVERFILL, group_id
        )
        if is_overfill and event.evidence is Evidence.OPERATOR:
            self._data.groups.accept_excess(group, self._data.group_excess(group))
        self._touch_group(group, touched)

    def _touch_group(self, group: Group, touched: dict[str, None]) -> None:
        for intent_id in group.intent_ids:
            touched[intent_id] = None
            self._data.derived.pop(intent_id, None)

    def _book_groups(
        self, before: Record, after: Record, booked: Sequence[ledger.Booking], group: Group | None
    ) -> list[Group]:
        """Book an intent's trades for its group, or for the brackets that they close; returns the changed groups."""
        groups, intent_id, intent = self._data.groups, after.intent_id, after.intent or before.intent
        changed: list[Group] = []
        if group is None or group.parent is None:
            owner = intent.owner if intent is not None else ""
            for booking in booked:
                if traded := booking.signed_quantity:
                    changed += groups.book_outside(booking.symbol_id, owner, traded, parent=self._parent_intent)
        else:
            for booking in booked:
                if booking.fee and booking.fee_asset is not None:
                    groups.put(groups.by_id[group.group_id].with_fee(booking.fee_asset, booking.fee))
            changed.append(group)
        if group is not None and after.cum_qty != before.cum_qty:
            changed.append(groups.set_filled(intent_id, after.cum_qty, symbol_id=after.orders[-1].order.symbol_id))
        return changed

    def _parent_intent(self, group: Group) -> OrderIntent | None:
        return self._data.record(group.intent_ids[0]).intent

    def _book(self, before: Record, after: Record, event: events.BaseEvent) -> list[ledger.Booking]:
        data = self._data
        if isinstance(event, events.OrderFilled):
            data.exposures.last_prices[event.symbol_id] = event.last_px
        if len(before.orders) == 1 == len(after.orders) and has_same_trades(before.orders[0], after.orders[0]):
            return []
        booked = ledger.bookings(before.orders, after.orders)
        for booking in booked:
            self._book_trade(booking, event, venue_time_ns(event))
        for booking in ledger.foreign_bookings(before.orders, after.orders):
            self._book_trade(booking, event, None, external=True)
        return booked

    def _adopt(self, after: Record, event: events.BaseEvent) -> None:
        """Remove the intent's orders from the external ones, and reverse their trades: they are booked as the intent's."""
        venue_ns = venue_time_ns(event)
        for facts in after.orders:
            if not facts.exchange_order_id:
                continue
            sent = [item.position for item in after.attempts if item.client_order_id in facts.client_order_ids]
            for booking in self._data.externals.take(facts, sent_position=min(sent, default=None)):
                self._book_trade(reversal(booking), event, venue_ns, external=True)

    def _book_trade(
        self, booking: ledger.Booking, event: events.BaseEvent, venue_ns: int | None, *, external: bool = False
    ) -> None:
        known, at_ns = self._data.reference, event.recorded_at_ns
        symbol = known.symbol(booking.symbol_id)
        self._data.ledger.book(booking, symbol, known.decimals, at_ns=at_ns, venue_ns=venue_ns, external=external)

    def _external_observed(self, event: events.ExternalOrderObserved) -> None:
        if self._is_booked(event):
            return
        for booking in self._data.externals.apply(event):
            self._book_trade(booking, event, event.transact_time_ns, external=True)

    def _is_booked(self, event: events.ExternalOrderObserved) -> bool:
        """Return whether a trade is an intent's already: the report that told so was recorded while this one was."""
        order_id = event.exchange_order_id or ""
        return any(
            has_id(facts, event) and has_terms_of(facts.order, event) and holds_trade(facts, event, None)
            for intent_id in self._data.indexes.intents_under(order_id)
            for facts in self._data.record(intent_id).orders
        )

    def _log_created(self, event: events.LogCreated) -> None:
        self._data.log_id = event.log_id
        self._data.exchange_id = event.exchange_id
        self._data.created_at_ns = event.recorded_at_ns

    def _leader_elected(self, event: events.LeaderElected) -> None:
        self._data.epoch = event.epoch

    def _kernel_started(self, event: events.KernelStarted) -> None:
        self._data.recorded_limits = event.settings.get("limits") or {}
        self._data.storms.start(event.settings)
        self._data.ledger.lag_ns = account_lag_ns(event.capabilities)

    def _capabilities_changed(self, event: events.CapabilitiesChanged) -> None:
        self._data.ledger.lag_ns = account_lag_ns(event.capabilities)

    def _all_paused(self, event: events.Paused) -> None:
        if event.intent_id is None:
            self._data.trading_status = self._data.trading_status.paused(event)

    def _all_resumed(self, event: events.Resumed) -> None:
        if event.intent_id is None:
            self._data.trading_status = self._data.trading_status.resumed(event)

    def _snapshot_taken(self, event: events.VenueSnapshotTaken) -> None:
        if event.exchange_order_id is not None:
            self._data.externals.queried(event.exchange_order_id)
        if LookScope.TRADES in event.scopes and event.trades_cursor_ns is not None:
            self._data.trades_cursors.move(event.trades_cursor_ns, event.trades_symbols)
        if LookScope.OPEN_ORDERS in event.scopes and event.began_ns > self._data.confirmed[0]:
            self._data.confirmed = (event.began_ns, event.ended_ns)

    def _balances_observed(self, event: events.BalancesObserved) -> None:
        self._data.balances_at_ns = event.ended_ns
        self._data.ledger.observe(event.balances, began_ns=event.began_ns, ended_ns=event.ended_ns)

    def _position_observed(self, event: events.PositionObserved) -> None:
        self._data.ledger.observe_position(event.symbol_id, event.quantity, began_ns=event.observed_at_ns)

    def _transfer_observed(self, event: events.TransferObserved) -> None:
        if event.transfer_key in self._data.transfer_keys:
            return
        self._data.transfer_keys.add(event.transfer_key)
        at_ns = event.recorded_at_ns if event.transact_time_ns is None else event.transact_time_ns
        if event.evidence is Evidence.OPERATOR:  # it explains a difference that was observed
            at_ns = self._data.ledger.observed_from_ns - 1
        self._data.ledger.transfer(event.asset_id, event.amount, self._data.reference.decimals, at_ns=at_ns)

    def _reference_observed(self, event: events.SymbolObserved | events.AssetObserved) -> None:
        data = self._data
        data.reference.apply(event)
        if isinstance(event, events.SymbolObserved):  # an exit may no longer be placed or grow, or may again
            for group in data.groups.closable(event.symbol.symbol_id):
                data.groups.put(data.refreshed(group, at_ns=event.recorded_at_ns))

    def _heartbeat(self, event: HeartbeatEvent) -> None:
        self._data.heartbeats[event.owner] = heartbeat.apply_heartbeat_event(
            self._data.heartbeats.get(event.owner), event
        )

    def _finding(self, event: events.FindingRaised | events.FindingResolved) -> None:
        self._data.findings.apply(event)
        kind, _, subject = (
            event.finding_id.partition(":") if isinstance(event, events.FindingResolved) else ("", "", "")
        )
        if isinstance(event, events.FindingRaised) and event.finding.kind is FindingKind.SYMBOL_QUARANTINED:
            finding = event.finding
            self._data.trading_status = self._data.trading_status.quarantine(finding.symbol_id or "", finding.text)
        if kind == FindingKind.SYMBOL_QUARANTINED:
            self._data.trading_status = self._data.trading_status.release(subject)
        if kind == FindingKind.STORM:
            self._data.storms.resolve(subject)
            self._data.trading_status = self._data.trading_status.calm(subject)
        if kind == FindingKind.UNOWNED_CANDIDATE and event.evidence is Evidence.OPERATOR:
            self._data.dead_requests.pop(subject, None)
        if kind == FindingKind.POSITION_DRIFT and event.evidence is Evidence.OPERATOR:
            self._data.ledger.accept_position(subject)


def venue_time_ns(event: events.BaseEvent) -> int | None:
    """Return when it happened at the venue, if a report tells."""
    return event.transact_time_ns if isinstance(event, events.OrderReport) else None


def account_lag_ns(capabilities: Mapping[str, Any]) -> int:
    """The longest time (ns) for which a venue may show the account without its newest change, clock skew included."""
    lags = capabilities.get("read_lag") or {}
    return int(max(lags.values(), default=0) + 2 * capabilities.get("clock_skew_ns", 0))


INTENT_FOLDS: dict[type[events.BaseEvent], Callable[..., None]] = {
    events.IntentCreated: lambda fold, before, event: fold._data.groups.intent_created(event),
    events.AttemptStarted: lambda fold, before, event: fold._data.indexes.put_client_ids(
        before.intent_id, (event.client_order_id,)
    ),
    events.AttemptFailed: Fold._note_rejection,
    events.OrderRejected: Fold._note_rejection,
    events.AttemptResolved: Fold._note_dead,
    events.FindingRaised: lambda fold, before, event: fold._finding(event),
    events.FindingResolved: lambda fold, before, event: fold._finding(event),
}
"""Changes that an intent's events make besides its record, given the record before them."""

FOLDS: dict[type[events.BaseEvent], Callable[..., None]] = {
    events.LogCreated: Fold._log_created,
    events.LeaderElected: Fold._leader_elected,
    events.KernelStarted: Fold._kernel_started,
    events.CapabilitiesChanged: Fold._capabilities_changed,
    events.Paused: Fold._all_paused,
    events.Resumed: Fold._all_resumed,
    events.VenueSnapshotTaken: Fold._snapshot_taken,
    events.BalancesObserved: Fold._balances_observed,
    events.PositionObserved: Fold._position_observed,
    events.TransferObserved: Fold._transfer_observed,
    events.ExternalOrderObserved: Fold._external_observed,
    events.SymbolObserved: Fold._reference_observed,
    events.AssetObserved: Fold._reference_observed,
    events.FindingRaised: Fold._finding,
    events.FindingResolved: Fold._finding,
    events.HeartbeatReceived: Fold._heartbeat,
    events.HeartbeatLapsed: Fold._heartbeat,
    events.HeartbeatDisarmed: Fold._heartbeat,
}
"""Folds of the events outside intent and group streams."""

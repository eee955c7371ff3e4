"""The facts of one venue order, and the quantities derived from them.

Used by `evolve`, which adds facts, and by `order_state`. Facts are kept as sets, so their order of arrival, repetition
and delay do not matter: quantities and status are computed, never counted up.

* Trades, corrections and busts are all kept. The newest entry of each chain of corrections counts, unless it is busted; a
  bust of an unknown trade waits as a tombstone.
* The venue's totals are evidence. The inferred quantity is the evidence less the known trades; evidence older than the
  newest bust or correction does not count.
* Terms and flags change only by a report whose venue time is not older than the known one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple, Self

from msgspec.structs import replace

from kernel.lifecycle.orders.shared_sequence import Facts, SharedSequence
from kernel.lifecycle.orders.trades import NO_TRADES, TradeEntry, Trades, fees_of
from kernel.models import AttemptKind, OrdStatus
from kernel.order_spec import OrderType, StandardOrder, TimeInForce


class CumEvidence(NamedTuple):
    """The venue's filled quantity at a venue time."""

    time_ns: int
    cum_qty: int
    margin_ns: int | None = None
    """As of a trade (`TradeEntry`)."""


class ReplacedOrder(NamedTuple):
    """The order that another one replaced."""

    client_order_id: str
    keeps_cum_qty: bool
    """The venue counts what it filled in the totals of the order that replaced it."""


class RequestedTerms(NamedTuple):
    """Quantity and price that were requested for a venue order."""

    quantity: int
    price: int | None


class PendingRequest(NamedTuple):
    """A cancel or modify that the venue reported as pending."""

    request_id: str
    """Its client order id; empty if the venue gave none."""
    kind: AttemptKind
    time_ns: int
    """Venue time of the report."""


class RareFacts(Facts, frozen=True):
    """Facts that few orders have; the others share `NO_RARE`."""

    accepted_ns: int | None = None
    """Venue time of its acceptance, if that was reported of a stop, or of an order that the kernel did not send."""
    triggered: bool = False
    told_type: OrderType | None = None
    """Its type as the venue reports it, if it was sent as a stop."""
    parent_id: str = ""
    """The venue's id of the stop whose trigger made it, if the venue names it."""
    succeeded_ns: int | None = None
    """When the order that its trigger made was recorded; it has closed then."""
    replaced: ReplacedOrder | None = None
    """The order that it replaced."""
    carried_qty: int = 0
    """Filled quantity of that order, if the venue's totals of this one include it: `quantity` and `cum_qty` do not."""
    mirrored_qty: int = 0
    """The CumQty that the venue reports of the stop whose trigger made it."""
    reopened_ids: frozenset[str] = frozenset()
    """Venue order ids that were known when a query showed it open although it was taken for a triggered stop: none of
    them was made by its trigger."""
    sizes: frozenset[tuple[int, int]] = frozenset()
    """(venue time, quantity) of each change of terms, and of an acceptance with another quantity than sent."""
    splits_ns: frozenset[int] = frozenset()
    """Venue times of the changes of quantity that were splits."""
    superseded_ids: frozenset[str] = frozenset()
    """Client order ids that a replace has superseded."""
    busts: tuple[tuple[str, int], ...] = ()
    """(busted fill key, venue time)."""
    pending: tuple[PendingRequest, ...] = ()
    stopped: bool = False
    done_for_day_ns: int | None = None
    restated_ns: int = -1
    misses: int = 0
    """Admissible queries since the last sighting that did not show it, the first of them a list."""
    missed_ns: int | None = None
    """When the newest of them was recorded."""
    not_found: bool = False
    """True if a query by its id since the last sighting did not find it."""
    false_ends: int = 0
    """Ends after which it was shown open."""
    end_acted: bool = False
    """True if one of them was unsolicited and confirmed."""
    in_doubt_ns: int | None = None
    """When a report was recorded that may be about it (H25); None once it was queried since."""
    id_reused: bool = False
    """True if the venue gave its id to another order."""
    late: bool = False
    retired: bool = False
    """Belongs to a deleted intent of the same id: known, but not counted."""
    recorded: bool = False
    """From a store's write, so its totals may never be explained by fills."""
    reduced_qty: int = 0
    """Reduction of a reduce-only order's requested quantity by the venue, as the position shrank."""
    changed_to: RequestedTerms | None = None
    """Terms of the newest change in place that the order took; None if there was none."""
    other_terms: bool = False
    """True if the venue works other terms than were requested."""
    cancel_failures: int = 0
    """Cancels without effect."""
    cancel_not_before_ns: int = 0


NO_RARE = RareFacts()


class OrderFacts(Facts, frozen=True, dict=True):
    """One venue order under one of the kernel's client order ids."""

    exchange_order_id: str
    """Empty until the venue reports it."""
    client_order_ids: tuple[str, ...]
    """The id of the submit, then those of its replaces."""
    order: StandardOrder
    """The terms as sent."""
    quantity: int
    price: int | None
    generation: int
    """Generation of the intent that the order was sent for."""
    first_seen_ns: int
    """When its first report was recorded, which may be long after it was accepted."""
    last_seen_ns: int
    sent_ns: int | None = None
    """Earliest timestamp of its sends: it cannot have traded before. None if no send is known."""
    accepted: bool = False
    quantity_ns: int = -1
    """Venue time of the quantity."""
    price_ns: int = -1
    trades: Trades = NO_TRADES
    evidence: tuple[CumEvidence, ...] = ()
    """Totals for which no other is both newer and larger."""
    answered_ids: frozenset[str] = frozenset()
    closed: OrdStatus | None = None
    """CANCELED, EXPIRED or REJECTED, as reported."""
    closed_cum: CumEvidence | None = None
    """The newest total reported with the end of the order."""
    closed_ns: int | None = None
    gone_ns: int | None = None
    """Begin of the query whose list of open orders no longer had it: closed, reason unknown."""
    end_time_ns: int = 0
    """Venue time of the newest reported end."""
    first_end_ns: int = 0
    """Venue time of the oldest one since it was last opened."""
    unconfirmed_ns: int | None = None
    """When its end, or a fill after it, was recorded, until a later status query does not show it open."""
    created_ns: int | None = None
    """Venue time at which the venue says that it made the order."""
    peak: CumEvidence | None = None
    """The largest total that a report by client order id told, at the earliest time."""
    place: int = 0
    """Its place among the intent's orders, in order of first report."""
    rare: RareFacts = NO_RARE

    @property
    def counted_trades(self) -> Trades:
        """The trades that count: after corrections, without busted ones and those outside its life."""
        return self.trades if simple(self) and not self.trades.bounded else self.corrected_trades

    @cached_property
    def corrected_trades(self) -> Trades:
        """`counted_trades` of an order with corrections, busts or trades without a client order id."""
        return compute_counted_trades(self)

    @cached_property
    def general_quantities(self) -> Quantities:
        """`quantities` of any order."""
        return general_quantities(self)

    @property
    def quantities(self) -> Quantities:
        cum_qty = plain_cum_qty(self)
        if cum_qty is None:
            return self.general_quantities
        return Quantities(self.trades.quantity, self.trades.notional, cum_qty, -1)

    @property
    def client_order_id(self) -> str:
        """The id under which the venue knows it now."""
        return self.client_order_ids[-1]

    @property
    def cum_qty(self) -> int:
        cum_qty = plain_cum_qty(self)
        return self.general_quantities.cum_qty if cum_qty is None else cum_qty

    @property
    def traded_qty(self) -> int:
        return self.quantities.traded_qty

    @property
    def inferred_qty(self) -> int:
        cum_qty = plain_cum_qty(self)
        if cum_qty is not None:
            return cum_qty - self.trades.quantity
        return self.general_quantities.cum_qty - self.general_quantities.traded_qty

    @property
    def filled(self) -> bool:
        return self.cum_qty >= self.quantity

    @property
    def ended(self) -> bool:
        """True if it can no longer be filled: closed, gone, a day order whose day is done, or a triggered stop."""
        if self.closed is not None or self.gone_ns is not None:
            return True
        return self.rare is not NO_RARE and (self.succeeded or self.day_is_over)

    @property
    def succeeded(self) -> bool:
        """True if it was a stop and the order that its trigger made has taken its place."""
        return self.rare.succeeded_ns is not None

    @property
    def day_is_over(self) -> bool:
        return self.done_for_day and self.order.time_in_force is TimeInForce.DAY

    @property
    def done_for_day(self) -> bool:
        return self.rare.done_for_day_ns is not None and self.rare.done_for_day_ns > self.rare.restated_ns

    @property
    def live(self) -> bool:
        """True if it can still be filled, as far as is known."""
        return not self.ended and self.cum_qty < self.quantity

    @property
    def final_cum_qty(self) -> int | None:
        """Its final filled quantity; None while it is or may be open, or the quantity is not known."""
        cum_qty = self.cum_qty
        if cum_qty >= self.quantity or (self.rare is not NO_RARE and (self.succeeded or self.day_is_over)):
            return cum_qty
        if (self.closed is None and self.gone_ns is None) or self.unconfirmed_ns is not None:
            return None
        return cum_qty if self.has_total else None

    @property
    def has_total(self) -> bool:
        """True if the total that it ended with is known."""
        return self.closed_cum is not None and self.closed_cum.time_ns >= newest_void(self)

    @property
    def late_trades(self) -> int:
        """Number of trades with a later venue time than its end."""
        if not self.first_end_ns:
            return 0
        return sum(entry.time_ns > self.first_end_ns for entry in self.trades)

    @property
    def is_missed(self) -> bool:
        """True if a query since its last sighting did not show it, though its end is not known."""
        return self.live and (self.rare.misses > 0 or self.rare.not_found)

    @property
    def next_proof_ns(self) -> int:
        """The instant that a status query must include to confirm its end, or to be the next miss."""
        if not self.live:
            return self.unconfirmed_ns or 0
        missed_ns = self.rare.missed_ns  # two answers of one instant are one
        return max(self.first_seen_ns, self.last_seen_ns, missed_ns + 1 if missed_ns is not None else 0)

    @property
    def leaves_qty(self) -> int:
        return max(0, self.quantity - self.cum_qty) if not self.ended else 0

    def answers_to(self, client_order_id: str) -> bool:
        """Return whether a client order id is or was its own, or is that of a request about it."""
        if client_order_id in self.client_order_ids or client_order_id in self.rare.superseded_ids:
            return True
        pending = self.rare.pending
        return client_order_id in self.answered_ids or any(item.request_id == client_order_id for item in pending)

    @property
    def all_ids(self) -> set[str]:
        """Every id that a report about it may have."""
        asked = (item.request_id for item in self.rare.pending)
        ids = {self.exchange_order_id, *self.client_order_ids, *self.rare.superseded_ids, *self.answered_ids, *asked}
        return ids - {""}

    @property
    def open_requests(self) -> list[AttemptKind]:
        """Kinds of the pending requests that the venue has not answered."""
        return [request.kind for request in self.rare.pending if request.request_id not in self.answered_ids]


def with_rare(facts: OrderFacts, **changes: Any) -> OrderFacts:
    """Return facts with changes of the rare ones; without any that is set they are `NO_RARE` itself."""
    rare = replace(facts.rare, **changes)
    return replace(facts, rare=NO_RARE if rare == NO_RARE else rare)


class SettledOrders(SharedSequence[OrderFacts]):
    """Ended orders of which nothing more is expected, and their sums; each is found by its ids.

    An order that is taken out leaves a gap in the list; it fills it again if it comes back unchanged.
    """

    __slots__ = ("cum_notional", "cum_qty", "gaps", "last_filled", "reduced_qty", "traded_qty")
    short = 0

    def __init__(self, entries: Iterable[OrderFacts] = ()) -> None:
        self.cum_qty = 0
        self.traded_qty = 0
        self.cum_notional = 0
        self.reduced_qty = 0
        self.last_filled = -1
        """Place of the newest one that is filled."""
        self.gaps: frozenset[int] = frozenset()
        """Indexes in the list of the orders that were taken out."""
        super().__init__(entries)

    @classmethod
    def entry_type(cls, source: Any) -> Any:
        return OrderFacts

    def keys_of(self, entry: OrderFacts) -> Iterable[str]:
        replaced = () if entry.rare.replaced is None else (replaced_key(entry.rare.replaced.client_order_id),)
        return entry.all_ids.union(replaced)

    def _copy(self) -> Self:
        copy = super()._copy()
        for name in SettledOrders.__slots__:
            setattr(copy, name, getattr(self, name))
        return copy

    def _take(self, entry: OrderFacts) -> None:
        super()._take(entry)
        self._add(entry, 1)

    def _add(self, entry: OrderFacts, times: int) -> None:
        if entry.rare.retired:
            return
        self.cum_qty += times * entry.cum_qty
        self.traded_qty += times * entry.traded_qty
        self.cum_notional += times * entry.quantities.cum_notional
        self.reduced_qty += times * entry.rare.reduced_qty
        self.last_filled = max(self.last_filled, newest_filled((entry,)))

    def plus(self, entry: OrderFacts) -> Self:
        """Return these orders and one more."""
        places = self._entries.places.get(next(iter(entry.all_ids)), ())
        gap = next((place for place in places if place in self.gaps and self._entries[place] == entry), None)
        if gap is None:
            return super().plus(entry)
        filled = self._copy()
        filled.gaps = self.gaps - {gap}
        filled._add(entry, 1)
        return filled

    def without(self, found: Collection[OrderFacts]) -> Self:
        """Return these orders without some of them."""
        if len(found) == len(self):
            return type(self)()
        left, gaps = self._copy(), set(self.gaps)
        for entry in found:
            places = self._entries.places[next(iter(entry.all_ids))]
            gaps.update(place for place in places if self._entries[place] is entry)
            left._add(entry, -1)
        left.gaps = frozenset(gaps)
        if any(entry.place == left.last_filled for entry in found):
            left.last_filled = newest_filled(left)
        return left

    def under(self, key: str) -> list[OrderFacts]:
        places = self._entries.places.get(key, ())
        return [self._entries[place] for place in places if place < self._count and place not in self.gaps]

    def replacing(self, client_order_id: str) -> list[OrderFacts]:
        """Return the orders that replaced the one with a client order id."""
        return self.under(replaced_key(client_order_id))

    def __iter__(self) -> Iterator[OrderFacts]:
        held = (entry for place, entry in enumerate(super().__iter__()) if place not in self.gaps)
        return iter(sorted(held, key=lambda facts: facts.place))

    def __len__(self) -> int:
        return self._count - len(self.gaps)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SettledOrders):
            return NotImplemented
        same = self._entries is other._entries and (self._count, self.gaps) == (other._count, other.gaps)
        return same or (len(self) == len(other) and [*self] == [*other])

    __hash__ = SharedSequence.__hash__


NONE_SETTLED = SettledOrders()


def newest_filled(orders: Iterable[OrderFacts]) -> int:
    """Return the place of the newest filled order that counts for the intent; -1 if there is none."""
    filled = (facts.place for facts in orders if facts.filled and not (facts.rare.retired or facts.succeeded))
    return max(filled, default=-1)


def replaced_order(facts: OrderFacts, orders: Iterable[OrderFacts], settled: SettledOrders) -> OrderFacts | None:
    """Return the order that an order replaced, if it is known."""
    if facts.rare.replaced is None:
        return None
    name = facts.rare.replaced.client_order_id
    return next((item for item in (*settled.under(name), *orders) if name in item.client_order_ids), None)


def replaced_key(client_order_id: str) -> str:
    """Return the key of an order that replaced one with a client order id."""
    return f"\n{client_order_id}"


class Quantities(NamedTuple):
    traded_qty: int
    """Known trades, net of busts and corrections."""
    cum_notional: int
    cum_qty: int
    """Trades, plus the evidence beyond them."""
    voided_ns: int
    """Venue time of the newest bust or correction, −1 if none; older evidence does not count."""


def plain_cum_qty(facts: OrderFacts) -> int | None:
    """Return the filled quantity of an order of which nothing rare is known; None for any other."""
    trades, evidence = facts.trades, facts.evidence
    if facts.rare is not NO_RARE or trades.bounded or trades.corrected or len(evidence) > 1:
        return None
    if not evidence:
        return trades.quantity
    total = evidence[0]
    return max(trades.quantity, total.cum_qty) if total.margin_ns is None else None


def general_quantities(facts: OrderFacts) -> Quantities:
    """Return the quantities of any order, also after busts, corrections, splits and triggers."""
    trades, voided_ns = facts.counted_trades, newest_void(facts)
    traded = quantity_of(facts, trades)
    if facts.succeeded:  # its totals are those of the order that its trigger made
        return Quantities(traded, trades.notional, traded, voided_ns)
    shown = [in_new_units(facts, item.cum_qty, item.time_ns) for item in valid_evidence(facts)]
    own = max([0, *shown]) - facts.rare.carried_qty
    return Quantities(traded, trades.notional, max(traded, facts.rare.mirrored_qty, own), voided_ns)


def quantity_of(facts: OrderFacts, trades: Trades) -> int:
    """Return the sum of trades; constant time if there was no split."""
    if not facts.rare.splits_ns:
        return trades.quantity
    return sum(in_new_units(facts, trade.quantity, trade.time_ns) for trade in trades)


def valid_evidence(facts: OrderFacts) -> list[CumEvidence]:
    """Return the totals that include every bust and correction, and are of its life."""
    voided_ns = newest_void(facts)
    return [item for item in facts.evidence if item.time_ns >= voided_ns and counts(facts, item)]


def in_life(facts: OrderFacts, time_ns: int, margin_ns: int, *, ended_ns: int | None) -> bool:
    """Return whether a venue time is in an order's life: from its creation, first send or acceptance to its end."""
    known = (facts.created_ns, facts.sent_ns, facts.rare.accepted_ns)
    begin_ns = next((begin_ns for begin_ns in known if begin_ns is not None), None)
    begun = begin_ns is None or time_ns >= begin_ns - margin_ns
    return begun and (ended_ns is None or time_ns <= ended_ns + margin_ns)


def told_end(facts: OrderFacts) -> int | None:
    """Return the venue time at which an order was reported ended or filled."""
    ended_ns = facts.first_end_ns if facts.closed is not None and facts.first_end_ns else None
    return min((time for time in (ended_ns, told_filled(facts)) if time is not None), default=None)


def told_filled(facts: OrderFacts) -> int | None:
    """Return the venue time at which an order was reported filled, since it may last have been open again."""
    shown = (facts.peak, *facts.evidence) if facts.peak is not None else ()
    since_ns, carried_qty = max(1, newest_reopening(facts)), facts.rare.carried_qty
    filled = (
        item.time_ns
        for item in shown
        if item.margin_ns is None and item.time_ns >= since_ns and item.cum_qty >= facts.quantity + carried_qty
    )
    return min(filled, default=None)


def end_of_life(facts: OrderFacts) -> int | None:
    """Return when an order ended: as reported, else when it is known to have; None while it is open."""
    told_ns = told_end(facts)
    if told_ns is not None or facts.live:
        return told_ns
    if (closed_ns := facts.closed_ns or facts.rare.succeeded_ns) is not None:
        return closed_ns
    return max((entry.time_ns for entry in facts.counted_trades), default=0) or None


def counts(facts: OrderFacts, item: TradeEntry | CumEvidence) -> bool:
    """Return whether a trade or total is the order's: by its client order id, or as it is of the order's life (H25)."""
    if item.margin_ns is None or not item.time_ns:
        return True
    return in_life(facts, item.time_ns, item.margin_ns, ended_ns=told_end(facts))


def has_same_trades(old: OrderFacts, new: OrderFacts) -> bool:
    """Return whether the same trades of an order certainly count after an event: all of them, as before it."""
    trades, odd = new.trades, new.trades.corrected or new.trades.bounded or new.rare.busts
    return trades is old.trades and new.rare is old.rare and new.order is old.order and not odd


def foreign_trades(facts: OrderFacts) -> list[TradeEntry]:
    """Return the trades that turned out to be another order's, which had or has the same venue order id."""
    return [entry for entry in facts.trades if not counts(facts, entry)] if facts.trades.bounded else []


def in_new_units(facts: OrderFacts, quantity: int, time_ns: int) -> int:
    """Convert a quantity of an instant to the units after later splits."""
    if not facts.rare.splits_ns:
        return quantity
    for split_ns in sorted(facts.rare.splits_ns):
        if time_ns < split_ns and (before := size_at(facts, split_ns)):  # of nothing, nothing can have been filled
            quantity = quantity * size_at(facts, split_ns + 1) // before
    return quantity


def size_at(facts: OrderFacts, before_ns: int) -> int:
    """Return the order's quantity at the venue just before an instant."""
    sizes = [size for size in facts.rare.sizes if size[0] < before_ns]
    return max(sizes)[1] if sizes else facts.order.quantity


def simple(facts: OrderFacts) -> bool:
    """Return whether nothing was busted or corrected, the common case."""
    return not facts.rare.busts and not facts.trades.corrected


def newest_void(facts: OrderFacts) -> int:
    if simple(facts):
        return -1
    corrected = (trade.time_ns for trade in facts.trades if trade.ref_fill_key is not None)
    return max([-1, *(time_ns for _, time_ns in facts.rare.busts), *corrected])


def newest_reopening(facts: OrderFacts) -> int:
    """Return the venue time of the newest bust, or correction to less: a filled order may be open after it."""
    if simple(facts):
        return -1
    known = {trade.fill_key: trade.quantity for trade in facts.trades}
    less = (trade.time_ns for trade in facts.trades if trade.quantity < known.get(trade.ref_fill_key or "", 0))
    return max([-1, *(time_ns for _, time_ns in facts.rare.busts), *less])


def effective_trades(entries: Iterable[TradeEntry], busts: Iterable[tuple[str, int]]) -> list[TradeEntry]:
    """Return the entries that count: the newest of each chain of corrections, none of a busted chain.

    Depends only on the set of entries and busts. A correction of an unknown trade counts by itself, as it states the trade;
    the trade, when it arrives, is already corrected.
    """
    entries = sorted(entries)
    by_key = {entry.fill_key: entry for entry in entries}
    chains: dict[str, list[TradeEntry]] = {}
    for entry in entries:
        chains.setdefault(root_key(entry.fill_key, by_key), []).append(entry)
    void_roots = {root_key(key, by_key) for key, _ in busts}
    return [entry for root, chain in chains.items() if root not in void_roots for entry in newest_of(chain)]


def compute_counted_trades(facts: OrderFacts) -> Trades:
    """Return the trades that count if something was corrected or busted, or is another order's.

    A correction of an unknown trade may, through a lost correction, correct a known one. It does not count if the trades
    would then exceed the venue's newest total.
    """
    own = [entry for entry in facts.trades if counts(facts, entry)] if facts.trades.bounded else facts.trades
    if simple(facts):
        return Trades(own)
    entries = tuple(effective_trades(own, facts.rare.busts))
    by_key = {entry.fill_key: entry for entry in facts.trades}
    rooted = tuple(entry for entry in entries if root_key(entry.fill_key, by_key) in by_key)
    newest = max(valid_evidence(facts), default=None, key=evidence_order)
    if len(rooted) == len(entries) or newest is None:
        return Trades(entries)
    until_then = (entry for entry in entries if entry.time_ns <= newest.time_ns)
    traded = sum(in_new_units(facts, entry.quantity, entry.time_ns) for entry in until_then)
    return Trades(rooted if traded > in_new_units(facts, newest.cum_qty, newest.time_ns) else entries)


def root_key(fill_key: str, by_key: dict[str, TradeEntry]) -> str:
    """Return the first key of the chain of corrections that a key belongs to."""
    seen = {fill_key}
    while (entry := by_key.get(fill_key)) is not None and entry.ref_fill_key is not None:
        if entry.ref_fill_key in seen:
            break
        fill_key = entry.ref_fill_key
        seen.add(fill_key)
    return fill_key


def newest_of(chain: list[TradeEntry]) -> list[TradeEntry]:
    """Return the entries of one chain that count.

    Without corrections, all originals (two under one key both count); else the correction that no other corrects, of
    several the one with the latest venue time.
    """
    corrections = [entry for entry in chain if entry.ref_fill_key is not None]
    if not corrections:
        return chain
    corrected = {entry.ref_fill_key for entry in corrections}
    last = [entry for entry in corrections if entry.fill_key not in corrected] or corrections
    return [max(last, key=lambda entry: (entry.time_ns, entry.fill_key))]


def with_trade(facts: OrderFacts, entry: TradeEntry) -> OrderFacts:
    """Add a trade or a correction; of a repeated one the fees count, as the newest report of them."""
    known = facts.trades.same_as(entry)
    if known is None:
        return replace(facts, trades=facts.trades.plus(entry), accepted=True)
    if fees_of(entry) in (None, fees_of(known)):
        return facts
    return replace(facts, trades=facts.trades.with_fees_of(known, entry))


def with_bust(facts: OrderFacts, fill_key: str, time_ns: int) -> OrderFacts:
    """Mark a fill key as busted, known or not."""
    if any(key == fill_key for key, _ in facts.rare.busts):
        return facts
    return with_rare(replace(facts, accepted=True), busts=(*facts.rare.busts, (fill_key, time_ns)))


def with_total(evidence: tuple[CumEvidence, ...], given: CumEvidence) -> tuple[CumEvidence, ...]:
    """Return totals with another one, without those that it replaces; the same ones if it is replaced itself."""
    kept = []
    for item in evidence:
        if replaces(item, given):
            return evidence
        if not replaces(given, item):
            kept.append(item)
    return tuple(sorted([*kept, given], key=evidence_order)) if kept else (given,)


def replaces(item: CumEvidence, other: CumEvidence) -> bool:
    """Return whether a total is as new and as large as another, and counts whenever the other does."""
    newer = item.time_ns >= other.time_ns and item.cum_qty >= other.cum_qty
    return newer and (item.margin_ns is None or item.margin_ns == other.margin_ns)


def evidence_order(item: CumEvidence) -> tuple[int, int, int]:
    return (item.time_ns, item.cum_qty, -1 if item.margin_ns is None else item.margin_ns)


def higher(known: CumEvidence | None, total: CumEvidence) -> CumEvidence | None:
    """Return a total (venue time 0: none was told) if it is larger than the known one, or was as large earlier."""
    if not total.time_ns or not total.cum_qty:
        return known
    is_known = known is not None and (known.cum_qty, -known.time_ns) >= (total.cum_qty, -total.time_ns)
    return known if is_known else total


def with_end(facts: OrderFacts, status: OrdStatus, *, now_ns: int, time_ns: int, cum_qty: int | None) -> OrderFacts:
    """Close the order: the first reason stays, the newest total reported with an end counts."""
    total = facts.closed_cum
    if cum_qty is not None and (total is None or (time_ns, cum_qty) > total):
        total = CumEvidence(time_ns, cum_qty)
    closed = facts.closed or status
    closed_ns = facts.closed_ns if facts.closed_ns is not None else now_ns
    return replace(
        facts, closed=closed, closed_cum=total, closed_ns=closed_ns, end_time_ns=max(facts.end_time_ns, time_ns),
        first_end_ns=min(facts.first_end_ns or time_ns, time_ns or facts.first_end_ns),
    )  # fmt: skip


def without_end(facts: OrderFacts) -> OrderFacts:
    """Open an ended order again: its end was false. The quantities stay, the final one is unknown."""
    opened = replace(
        facts, closed=None, closed_cum=None, closed_ns=None, gone_ns=None, first_end_ns=0, unconfirmed_ns=None
    )
    acted = facts.rare.end_acted or facts.final_cum_qty is not None
    return with_rare(opened, false_ends=facts.rare.false_ends + 1, end_acted=acted, **NOT_MISSED)


def without(facts: OrderFacts, *, now_ns: int, reflects_ns: int, listed: bool) -> OrderFacts:
    """Apply a status query that did not show an order open.

    It confirms the end of an ended order. Of a live one it is a miss (H22): the first must be a list (`listed`), each must
    include what was recorded until the last sighting and the miss before it.
    """
    if reflects_ns < facts.next_proof_ns:
        return facts
    if not facts.live:
        return replace(facts, unconfirmed_ns=None) if facts.unconfirmed_ns is not None else facts
    if listed or facts.rare.misses:
        facts = with_rare(facts, misses=facts.rare.misses + 1, missed_ns=now_ns)
    return facts if listed or facts.rare.not_found else with_rare(facts, not_found=True)


NOT_MISSED: dict[str, Any] = {"misses": 0, "missed_ns": None, "not_found": False}

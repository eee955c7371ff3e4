"""Planted bugs in what the kernel does at venues with personalities.

Used by `mutants`. The name says what the kernel does wrong; the docstring, the rule that it breaks. Each has its setting:
the personalities, and properties of the world, with which the rule matters.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kernel.errors import VenueError
from kernel.lifecycle import disagreement, order_identity
from kernel.lifecycle.order_identity import OrderMatch
from kernel.lifecycle.orders import order_facts
from kernel.models import Evidence
from kernel.reconciler import decide_run, order_sender, status_answer, status_query, suspect_query, suspects
from kernel.runtime import venue_session
from kernel.runtime.venue_session import VenueSession
from kernel.safety.trading_halts import TradingStatus
from kernel.streams import report_matching
from projections import state_data
from projections.folds.external_orders import Externals
from projections.folds.ledger import Ledger

Patch = tuple[object, str, object]
"""(module or class, name, replacement)."""
DECIDE_REPORT = importlib.import_module("kernel.lifecycle.decide_report")  # the package's name for it is the function
EVOLVE = importlib.import_module("kernel.lifecycle.evolve")


@dataclass(frozen=True)
class Setting:
    """Where a bug shows."""

    venue: tuple[str, ...]
    """Personalities."""
    world: Mapping[str, str] = field(default_factory=dict)
    """Properties of the world (see `plan.WORLD`)."""
    event: tuple[str, ...] = ()
    """What the venue does from the beginning."""


# --------------------------------------------------------------------------------------------------- H20: no client ids
def trades_without_ids_prove_absence() -> list[Patch]:
    """H20: a trade without a client order id may be that of an unknown submit."""
    return [without_suspect(lambda order: order.first_trade_ns is not None)]


def orders_without_ids_prove_absence() -> list[Patch]:
    """H20: an open order without a client order id may be that of an unknown submit."""
    return [without_suspect(lambda order: order.first_trade_ns is None)]


def without_suspect(cleared: Callable[[Any], bool]) -> Patch:
    honest = suspects.is_suspect

    def is_suspect(order: Any, request: Any, *, capabilities: Any, symbol: Any) -> bool:
        return not cleared(order) and honest(order, request, capabilities=capabilities, symbol=symbol)

    return (suspects, "is_suspect", is_suspect)


def an_unknown_submit_delays_no_other() -> list[Patch]:
    """H20: while a submit is unknown, the others of its symbol and side wait."""
    return [(decide_run, "wait_for_unknown", lambda inputs, intents: None)]


def an_attributed_trade_counts_twice() -> list[Patch]:
    """The trades of an external order that turns out to be an intent's are booked once."""
    return [(Externals, "take", lambda self, facts, *, sent_position=None: [])]


# ------------------------------------------------------------------------------------------ H21, H22: false ends, ghosts
def a_told_end_is_final() -> list[Patch]:
    """H21: a query that shows an ended order open opens it again."""
    return [(order_facts, "without_end", lambda facts: facts)]


def an_unsolicited_end_acts_at_once() -> list[Patch]:
    """H21: nothing follows from an unsolicited end before a query confirms it."""
    return [(DECIDE_REPORT, "is_unconfirmed", lambda event, before, after, *, confirm_all_ends: False)]


def one_miss_closes_an_order() -> list[Patch]:
    """H22: an order is closed by two queries that do not show it."""

    def missed_events(record: Any, facts: Any, answer: Any, capabilities: Any) -> Any:
        made = status_answer.missed_events(record, facts, answer, capabilities)
        if not made or not facts.live:
            return made
        gone = status_answer.observed(record, facts.client_order_id, answer, facts.exchange_order_id, gone=True)
        return [made[0], gone]

    return everywhere(missed_events)


def a_ghost_stays_open() -> list[Patch]:
    """H22: an order that two queries do not show is closed."""

    def missed_events(record: Any, facts: Any, answer: Any, capabilities: Any) -> Any:
        return status_answer.missed_events(record, facts, answer, capabilities)[: 1 if facts.live else None]

    return everywhere(missed_events)


def everywhere(missed_events: Callable[..., Any]) -> list[Patch]:
    return [(module, "missed_events", missed_events) for module in (venue_session, status_query)]


# ------------------------------------------------------------------------------------------------------------ H23: stops
def a_triggered_stop_is_a_duplicate() -> list[Patch]:
    """H23: the order that a stop's trigger makes takes the stop's place."""
    return [(EVOLVE, "link_triggered", lambda orders, changed, *, now_ns, shown_ns, solicited: orders)]


def a_stop_that_triggered_unseen_is_a_ghost() -> list[Patch]:
    """H23: a trade that nobody owns may be that of a stop that ended."""
    return [(module, "ended_stops", lambda *args: []) for module in (suspects, suspect_query)]


def totals_of_a_chain_are_added() -> list[Patch]:
    """H23: a stop and the order that its trigger made have one total."""
    honest = order_facts.general_quantities

    def compute(facts: Any) -> Any:
        return honest(order_facts.with_rare(facts, succeeded_ns=None))

    return [(order_facts, "general_quantities", compute)]


# -------------------------------------------------------------------------------------------------------- H24: the brake
def nothing_is_delayed() -> list[Patch]:
    """H24: each failure delays the next send for longer."""
    return [(module, "delay_ns", lambda failures, *, longest_ns=0: 0) for module in (disagreement, order_sender)]


def other_terms_are_no_failure() -> list[Patch]:
    """H24: an order that works other terms than requested counts as a failure."""
    return [
        (EVOLVE, "works_other_terms", lambda facts, orders: False),
        (EVOLVE, "with_failure", lambda record, now_ns, *, other_terms=False: record),
    ]


def a_refused_timestamp_ends_the_order() -> list[Patch]:
    """A refusal for the timestamp says nothing about the order."""
    honest = order_sender.OrderSender._rejected

    async def rejected(self: Any, intent_id: str, attempt: Any, refusal: Any) -> None:
        if refusal.timestamp:
            refusal.retry_after_s = None
        await honest(self, intent_id, attempt, refusal)

    return [(order_sender.OrderSender, "_rejected", rejected)]


# ---------------------------------------------------------------------------------------------- H25, H26: ids and reports
def the_venues_id_decides_alone() -> list[Patch]:
    """H25: a venue order id names an order only together with symbol and side."""
    honest = order_identity.match

    def match(report: Any, by_client_id: Any, by_order_id: Any, **given: Any) -> OrderMatch:
        if by_client_id is None and by_order_id:
            return OrderMatch(by_order_id[-1].intent_id)
        return honest(report, by_client_id, by_order_id, **given)

    return [(report_matching, "match", match)]


def fills_of_a_reused_id_are_ours() -> list[Patch]:
    """H25: a report without a client order id is an order's only in its life."""
    return [
        (module, "in_life", lambda facts, time_ns, margin_ns, *, ended_ns: True)
        for module in (order_facts, order_identity)
    ]


def recorded_before_it_is_durable() -> list[Patch]:
    """H26: the adapter is told that a report is recorded once it is in the log."""
    honest = VenueSession.ingest

    async def ingest(self: VenueSession, reports: Any, source: Any) -> bool:
        given = list(reports)
        if source.evidence is Evidence.STREAM:
            for report in given:
                self.venue.recorded(report)
        return await honest(self, given, source)

    return [(VenueSession, "ingest", ingest)]


# ------------------------------------------------------------------------------------------------------------- the books
def a_late_fee_is_ignored() -> list[Patch]:
    """The fee of a trade counts, whenever it is reported."""
    honest = order_facts.with_trade

    def with_trade(facts: Any, entry: Any) -> Any:
        return facts if facts.trades.same_as(entry) is not None else honest(facts, entry)

    return [(order_facts, "with_trade", with_trade)]


def a_transfer_is_ignored() -> list[Patch]:
    """A transfer changes the expected balance."""
    return [(venue_session, "transfer_events", lambda state, transfers: [])]


def a_transfer_counts_twice() -> list[Patch]:
    """A transfer is booked once."""
    honest = Ledger.transfer

    def transfer(self: Ledger, asset_id: str, amount: int, decimals: Any, *, at_ns: int) -> None:
        honest(self, asset_id, 2 * amount, decimals, at_ns=at_ns)

    return [(Ledger, "transfer", transfer)]


def exits_ignore_the_base_fee() -> list[Patch]:
    """The exits of a bracket sell what is held: what was bought, less the fees that were paid in it."""
    return [(state_data, "fees_in_base", lambda group, side, symbol, asset_decimals: 0)]


# ----------------------------------------------------------------------------------------------------------- the session
def a_quarantined_symbol_is_traded() -> list[Patch]:
    """Nothing is placed in a symbol whose data do not fit the log."""
    return [(TradingStatus, "quarantine", lambda self, symbol_id, reason: self)]


def a_defect_ends_the_session_for_good() -> list[Patch]:
    """After a defect of the adapter the session begins anew."""
    honest = VenueSession._pause

    async def pause(self: VenueSession, failures: int, problem: VenueError | None = None) -> None:
        await honest(self, failures, problem)
        if any(finding.kind == "ADAPTER_ERROR" for finding in self.state.findings()):
            await self.clock.sleep_until(2**62)

    return [(VenueSession, "_pause", pause)]


HIDDEN = {"lookup": "no", "window": "2", "faults": "0.15"}
"""Requests are often unknown, and no query by client order id finds their orders."""
SETTINGS: dict[Callable[[], list[Patch]], Setting] = {
    trades_without_ids_prove_absence: Setting(("unnamed-trades",), {**HIDDEN, "dedupe": "NONE"}, ("mute", "60")),
    orders_without_ids_prove_absence: Setting(("unnamed-orders",), HIDDEN),
    an_unknown_submit_delays_no_other: Setting(("unnamed-orders",), {"lookup": "no"}),
    an_attributed_trade_counts_twice: Setting(("unnamed-orders", "unnamed-trades"), {**HIDDEN, "foreign": "no"}),
    a_told_end_is_final: Setting(("false-ends",)),
    an_unsolicited_end_acts_at_once: Setting(("false-ends",)),
    one_miss_closes_an_order: Setting(("omits",)),
    a_ghost_stays_open: Setting(("ghosts",)),
    a_triggered_stop_is_a_duplicate: Setting(("triggers",)),
    a_stop_that_triggered_unseen_is_a_ghost: Setting(("unnamed-trades", "triggers"), HIDDEN, ("mute", "60")),
    totals_of_a_chain_are_added: Setting(("triggers",)),
    nothing_is_delayed: Setting(("undoes",), {"lag": "0", "lookup": "closed", "rate": "none", "latency": "0"}),
    other_terms_are_no_failure: Setting(("rounds",)),
    a_refused_timestamp_ends_the_order: Setting(("clocks",)),
    the_venues_id_decides_alone: Setting(("ids-per-symbol", "unnamed-trades")),
    fills_of_a_reused_id_are_ours: Setting(("ids-reused", "unnamed-trades")),
    recorded_before_it_is_durable: Setting(("plain",)),
    a_late_fee_is_ignored: Setting(("late-fees",)),
    a_transfer_is_ignored: Setting(("flows",)),
    a_transfer_counts_twice: Setting(("flows",)),
    exits_ignore_the_base_fee: Setting(("plain",)),
    a_quarantined_symbol_is_traded: Setting(("rescales",)),
    a_defect_ends_the_session_for_good: Setting(("defects",)),
}
"""Each bug and where it shows."""
BUGS = tuple(SETTINGS)
BY_NAME = {bug.__name__: setting for bug, setting in SETTINGS.items()}

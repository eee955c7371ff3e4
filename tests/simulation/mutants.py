"""Planted bugs: each breaks a rule of the protocol or a law, and the simulation must find it.

Used by `python -m tests.simulation --bug` and the tests, one at a time and only within a block. The name says what the
kernel does wrong; the docstring, the rule that it breaks.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec import structs
from msgspec.structs import replace

from kernel import events, groups, plan
from kernel.actions import Priority
from kernel.clock import NS_PER_S
from kernel.commands import handler, limit_gate
from kernel.errors import LogUnavailableError, Rejected
from kernel.lifecycle import record
from kernel.lifecycle.orders import attempt_outcome
from kernel.lifecycle.orders import order_facts as fact_rules
from kernel.log.engine import batch
from kernel.models import UNRESOLVED, AttemptKind, AttemptOutcome, Evidence, OrdStatus
from kernel.order_spec import OcoMode
from kernel.reconciler import (
    attempt_resolution,
    decide_run,
    order_sender,
    requeue_backoff,
    status_answer,
    status_query,
    venue_reconciler,
)
from kernel.reconciler.order_sender import OrderSender
from kernel.runtime import venue_session
from kernel.streams import event_writer  # fmt: skip
from kernel.streams.event_writer import EventWriter, ReportSource
from kernel.workqueue import WorkQueue
from projections import state as states
from projections import state_data
from projections.state_fold import Fold
from tests.simulation import bystander_mutants, venue_mutants

Patch = tuple[object, str, object]
"""(module or class, name, replacement)."""


def number_goes_on_after_absence() -> list[Patch]:
    """H5: after absence the same id is sent again."""
    return [(decide_run, "next_submit_number", lambda known: known.number + 1)]


def a_refusal_spends_the_id() -> list[Patch]:
    """H7: a rejected resend counts as the answer to the first send too."""
    honest = decide_run.next_submit_number

    def next_number(known: Any) -> int:
        refused = known.submit is not None and known.submit.outcome is AttemptOutcome.REJECTED
        return known.number + 1 if refused else honest(known)

    return [(decide_run, "next_submit_number", next_number)]


def grace_is_forgotten() -> list[Patch]:
    """H1: a query that began after the attempt proves absence."""
    return [with_absent_after(lambda event: event.stamp_ns)]


def grace_without_read_lag() -> list[Patch]:
    """H4: the end of validity is enough."""
    return [with_absent_after(lambda event: event.valid_until_ns)]


def with_absent_after(of: Callable[[Any], int | None]) -> Patch:
    honest = decide_run.started_event

    def started_event(*given: Any, **more: Any) -> events.AttemptStarted:
        event = honest(*given, **more)
        return event if event.absent_after_ns is None else structs.replace(event, absent_after_ns=of(event))

    return (decide_run, "started_event", started_event)


def sent_whenever() -> list[Patch]:
    """H3: an old decision is still sent."""
    return [without_objection("too late to send")]


def sent_without_the_lease() -> list[Patch]:
    """H2: the lease is not checked before the write."""
    return [without_objection("the lease has expired")]


def without_objection(text: str) -> Patch:
    honest = OrderSender.objection

    def objection(self: OrderSender, *given: Any) -> str | None:
        found = honest(self, *given)
        return None if found is not None and found.startswith(text) else found

    return (OrderSender, "objection", objection)


def older_epochs_may_write() -> list[Patch]:
    """H18: verdicts and attempts are not fenced."""
    deciding = next(item for item in vars(batch).values() if isinstance(item, type) and "decide" in vars(item))
    honest = deciding.decide

    def decide(self: Any, command: Any) -> Any:
        return honest(self, command if command.elects else command._replace(epoch=None))

    return [(deciding, "decide", decide)]


def recorded_after_the_send() -> list[Patch]:
    """Law 2: the venue receives the request before it is recorded."""
    honest = OrderSender._start

    async def start(self: OrderSender, sent: Any) -> int | None:
        if sent.started.kind is AttemptKind.SUBMIT:
            with contextlib.suppress(Exception):
                await self.venue.submit(order_sender.submit_request(sent.started))
        return await honest(self, sent)

    return [(OrderSender, "_start", start)]


def refusal_for_duplicate() -> list[Patch]:
    """H6: a refused duplicate counts as a rejected order."""
    return [with_unknown(lambda code, duplicate: duplicate, AttemptKind.SUBMIT)]


def silence_is_no() -> list[Patch]:
    """Law 4: no answer counts as a rejection."""
    return [with_unknown(lambda code, duplicate: code is None, AttemptKind.SUBMIT)]


def server_error_is_no() -> list[Patch]:
    """Law 4: a 503 counts as a rejection."""
    return [with_unknown(lambda code, duplicate: code == "503", AttemptKind.SUBMIT)]


def with_unknown(no: Callable[[str | None, bool], bool], kind: AttemptKind) -> Patch:
    honest = OrderSender._unknown

    async def unknown(
        self: OrderSender,
        intent_id: str,
        attempt: Any,
        text: str,
        *,
        code: str | None = None,
        duplicate: bool = False,
    ) -> None:
        is_pending = self.outcome(intent_id, attempt.position) is AttemptOutcome.PENDING
        if attempt.kind is kind and is_pending and no(code, duplicate):
            await self._rejected(intent_id, attempt, Rejected(text, code=code))
            return
        await honest(self, intent_id, attempt, text, code=code, duplicate=duplicate)

    return (OrderSender, "_unknown", unknown)


def refused_cancel_is_death() -> list[Patch]:
    """H12: "unknown order" on a cancel closes the order."""
    honest = OrderSender._unknown

    async def unknown(self: OrderSender, intent_id: str, attempt: Any, text: str, **more: Any) -> None:
        if attempt.kind is AttemptKind.CANCEL and more.get("code") == "-2011":
            facts = next(iter(self.state.record(intent_id).live_orders), None)
            if facts is not None:
                closed = events.OrderCanceled(
                    intent_id=intent_id, symbol_id=facts.order.symbol_id, client_order_id=facts.client_order_id,
                    exchange_order_id=facts.exchange_order_id, exec_type="CANCELED", cum_qty=facts.traded_qty,
                )  # fmt: skip
                source = ReportSource("venue:paper", Evidence.STREAM)
                await self.writer.append(
                    events.intent_stream(intent_id),
                    [closed],
                    actor=source.actor,
                    evidence=source.evidence,
                    is_fact=True,
                )
        await honest(self, intent_id, attempt, text, **more)

    return [(OrderSender, "_unknown", unknown)]


def acts_on_what_is_not_folded() -> list[Patch]:
    """Protocol, step 1: what is read next may be older than what was appended."""
    return [(EventWriter, "append", unfolded_append())]


def unfolded_append() -> Callable[..., Any]:
    honest = EventWriter.append

    class Hurried:
        """A state that reports every position as reached at once."""

        def __init__(self, state: Any) -> None:
            self._state = state

        def __getattr__(self, name: str) -> Any:
            return getattr(self._state, name)

        async def reached(self, position: int) -> None:
            return

    async def append(self: EventWriter, stream_id: str, made: Any, **given: Any) -> Any:
        if not isinstance(made[0], events.OrderReport):
            return await honest(self, stream_id, made, **given)
        state: Any = Hurried(self._state)
        hurried = EventWriter(self._log, state, clock=self._clock, ids=self._ids, metrics=self._metrics)
        return await honest(hurried, stream_id, made, **given)

    return append


def a_closed_order_takes_no_fill() -> list[Patch]:
    """Law 5: a fill after the end is dropped."""
    honest = fact_rules.with_trade

    def with_trade(facts: Any, entry: Any) -> Any:
        return facts if facts.closed is not None else honest(facts, entry)

    return [(fact_rules, "with_trade", with_trade)]


def fills_count_each_time() -> list[Patch]:
    """A fill received twice is recorded and counted twice."""

    def with_trade(facts: Any, entry: Any) -> Any:
        copies = sum(known.fill_key.split("#")[0] == entry.fill_key for known in facts.trades)
        fresh = entry._replace(fill_key=f"{entry.fill_key}#{copies}") if copies else entry
        return structs.replace(facts, trades=facts.trades.plus(fresh), accepted=True)

    return [(fact_rules, "with_trade", with_trade), (event_writer, "report_command_id", lambda intent_id, report: None)]


def totals_are_added() -> list[Patch]:
    """H17: what the venue counts beyond the trades is added, and stays."""
    honest = fact_rules.general_quantities

    def compute(facts: Any) -> Any:
        found = honest(facts)
        beyond = max((item.cum_qty for item in facts.evidence), default=0)
        return found._replace(
            cum_qty=found.traded_qty + max(0, beyond - (facts.trades[0].quantity if facts.trades else 0))
        )

    return [(fact_rules, "general_quantities", compute), (fact_rules, "plain_cum_qty", lambda facts: None)]


def busts_are_forgotten() -> list[Patch]:
    """H17: a void trade still counts."""
    return [(fact_rules, "with_bust", lambda facts, fill_key, time_ns: facts)]


def the_rest_from_trades_alone() -> list[Patch]:
    """H13: the remainder is computed though an ended order's final quantity is not known."""
    return [(plan, "open_question", lambda order: None)]


def watermark_by_the_stream() -> list[Patch]:
    """H16: the trades cursor follows the stream."""

    def since(self: venue_session.VenueSession, symbols: Sequence[str]) -> int:
        trades = (entry for intent in self.state.intents() for facts in self.state.record(intent.intent_id).orders
                  for entry in facts.trades)  # fmt: skip
        return max((entry.time_ns + 1 for entry in trades), default=self.state.created_at_ns)

    return [(venue_session.VenueSession, "_trades_since_ns", since)]


def a_partial_list_is_believed() -> list[Patch]:
    """Law 6: an incomplete query counts as complete."""
    return [
        (status_query, "answer_of", status_query.answer_of),
        (status_query.StatusQuerier, "_query_lists", believing_query),
    ]


async def believing_query(
    self: status_query.StatusQuerier,
    record: Any,
    client_order_id: str,
    exchange_order_id: str | None,
    *,
    since_ns: int,
) -> Any:
    symbols = [status_query.symbol_id_of_record(record)]
    snapshot = await self._ask(lambda: self.venue.snapshot(max(0, since_ns - 10 * NS_PER_S), symbols))
    shown = [*snapshot.fills, *snapshot.open_orders]
    owners = {id(item): await self._owner(item, snapshot.began_ns) for item in shown}
    return status_query.answer_of(
        snapshot, client_order_id, exchange_order_id, owners=owners, record=record, sent_ns=since_ns
    )


def missing_is_closed() -> list[Patch]:
    """H15: what a list does not show is closed at once, lag or not."""

    def missed_events(record: Any, facts: Any, answer: Any, capabilities: Any) -> Any:
        if not facts.live:
            return status_answer.missed_events(record, facts, answer, capabilities)
        hasty = replace(answer, reflects_ns=None)
        return [status_answer.observed(record, facts.client_order_id, hasty, facts.exchange_order_id, gone=True)]

    return [(venue_session, "missed_events", missed_events)]


def absence_without_a_window() -> list[Patch]:
    """H5: without a validity window, an order not found counts as absent."""
    return [
        (attempt_resolution, "without_window", lambda attempt, **when: attempt_resolution.ProvenAbsent("not found"))
    ]


def late_orders_are_ignored() -> list[Patch]:
    """H8: an order whose attempt was ruled out or refused stays unknown."""
    evolving = importlib.import_module("kernel.lifecycle.evolve")  # the package's name for it is the function
    honest = evolving.new_order

    def new_order(known: Any, event: Any) -> Any:
        sent = [item for item in known.attempts if item.client_order_id == event.client_order_id]
        over = sent and all(item.outcome in (AttemptOutcome.DEAD, AttemptOutcome.REJECTED) for item in sent)
        return None if over else honest(known, event)

    return [(evolving, "new_order", new_order)]


def second_orders_may_stay() -> list[Patch]:
    """H8: of two live orders none is canceled."""
    honest = plan.surplus_order

    def surplus(intent: Any, order: Any, live: Any) -> Any:
        return None if len(live) > 1 else honest(intent, order, live)

    return [(plan, "surplus_order", surplus)]


def own_cancels_are_a_surprise() -> list[Patch]:
    """H11: a cancel by the kernel ends the intent like one by the venue."""
    return [(record, "is_solicited", lambda facts, known: False)]


def amend_grace_is_forgotten() -> list[Patch]:
    """H14: the first query that shows the old terms rules a modify out."""

    def patched(attempt: Any) -> Any:
        return structs.replace(attempt, absent_after_ns=attempt.stamp_ns)

    honest = status_query.StatusQuerier.check_terms

    async def check_terms(self: status_query.StatusQuerier, attempt: Any, *more: Any, **named: Any) -> Any:
        early = patched(attempt) if attempt.absent_after_ns is not None else attempt
        return await honest(self, early, *more, **named)

    return [(status_query.StatusQuerier, "check_terms", check_terms)]


def an_ended_order_ends_its_replace() -> list[Patch]:
    """Once the target of a replace has ended, its new order is no longer queried."""
    evolving, honest = importlib.import_module("kernel.lifecycle.evolve"), attempt_outcome.outcome_from_facts

    def outcome(attempt: Any, facts: Any) -> Any:
        ended = attempt.new_order and attempt_outcome.aims_at(attempt, facts) and not facts.live
        return AttemptOutcome.DEAD if ended else honest(attempt, facts)

    return [(module, "outcome_from_facts", outcome) for module in (attempt_outcome, evolving)]


def a_refused_change_ends_the_order() -> list[Patch]:
    """A working order is canceled because other terms for it were rejected."""
    return [(plan, "outlives_refusal", lambda intent, order, working: False)]


def an_amend_keeps_the_old_generation() -> list[Patch]:
    """A modified order keeps its old generation: a cancel by the venue does not stop the intent."""
    evolving = importlib.import_module("kernel.lifecycle.evolve")
    return [(evolving, "amended", lambda known, facts, event: facts)]


def questions_without_a_pause() -> list[Patch]:
    """A run without progress is repeated at once."""
    return [(requeue_backoff.KeyBackoff, "record_failure", lambda self, key: self.clock.now_ns() + 1)]


def canceled_means_gone() -> list[Patch]:
    """An intent that is canceled is shown CANCELED while its order still works."""
    honest = record.order_state

    def order_state(known: Any) -> Any:
        found = honest(known)
        if found is None or known.intent is None or known.intent.desired != "CANCELED":
            return found
        status = structs.replace(found.status, ord_status=OrdStatus.CANCELED)
        return structs.replace(found, status=status)

    return [(states, "order_state", order_state)]


def acknowledged_before_the_commit() -> list[Patch]:
    """Invariant 5: a command whose commit failed is answered all the same."""
    honest = handler.CommandHandler._append

    async def append(self: handler.CommandHandler, *given: Any, **more: Any) -> None:
        with contextlib.suppress(LogUnavailableError):
            await honest(self, *given, **more)

    return [(handler.CommandHandler, "_append", append)]


def the_dead_leaders_calls_are_waited_for() -> list[Patch]:
    """Protocol, step 3: a call left pending by an older incarnation counts as running."""
    honest = decide_run.resolve

    def resolve(inputs: Any, order: Any, attempt: Any) -> Any:
        if attempt.outcome is AttemptOutcome.PENDING:
            return plan.WaitUntil(None, "its call will report")
        return honest(inputs, order, attempt)

    return [(decide_run, "resolve", resolve)]


def unknown_is_no_obstacle() -> list[Patch]:
    """Law 4: a new order is placed while an older one is unknown."""
    honest = plan.difference

    def difference(intent: Any, order: Any) -> Any:
        if order is None or not any(item.outcome is AttemptOutcome.UNKNOWN for item in order.attempts):
            return honest(intent, order)
        settled = tuple(item for item in order.attempts if item.outcome not in UNRESOLVED)
        return honest(intent, structs.replace(order, attempts=settled))

    return [(plan, "difference", difference)]


def a_batch_is_folded_once() -> list[Patch]:
    """Law 9: what is folded depends on how the log was cut into batches."""
    honest_apply, honest_book = states.State.apply, Fold._book
    booked: set[str] = set()

    def apply(self: states.State, batch: Any, recalled: Any = ()) -> Any:
        booked.clear()
        return honest_apply(self, batch, recalled)

    def book(self: Fold, before: Any, after: Any, event: Any) -> Any:
        if after.intent_id in booked:
            return []
        booked.add(after.intent_id)
        return honest_book(self, before, after, event)

    return [(states.State, "apply", apply), (Fold, "_book", book)]


def the_other_leg_stays() -> list[Patch]:
    """ONE_CANCELS_OTHER: the first fill cancels nothing."""
    return [with_allowance(lambda group: group.mode is OcoMode.ONE_CANCELS_OTHER, lambda group, name, wanted: wanted)]


def children_before_the_parent() -> list[Patch]:
    """ONE_TRIGGERS_OTHER: what follows is sent before the leader has filled."""
    return [with_allowance(lambda group: group.parent is not None, lambda group, name, wanted: wanted)]


def each_child_for_itself() -> list[Patch]:
    """ONE_TRIGGERS_OTHER: the followers do not shrink each other."""

    def released(group: Any, name: str, wanted: int) -> int:
        return wanted if name == group.parent else min(wanted, group.filled.get(group.parent, 0))

    return [with_allowance(lambda group: group.parent is not None, released)]


def siblings_do_not_shrink() -> list[Patch]:
    """ONE_UPDATES_OTHER: a fill changes nothing until it is whole."""

    def unshrunk(group: Any, name: str, wanted: int) -> int:
        return wanted if group.others_filled(name) < wanted else min(wanted, group.filled.get(name, 0))

    return [with_allowance(lambda group: group.mode is OcoMode.ONE_UPDATES_OTHER, unshrunk)]


def with_allowance(where: Callable[[Any], bool], instead: Callable[[Any, str, int], int]) -> Patch:
    honest = groups.permitted_quantity

    def allowance(group: Any, name: str, wanted: int, **terms: int) -> int:
        return instead(group, name, wanted) if where(group) else honest(group, name, wanted, **terms)

    return (state_data, "permitted_quantity", allowance)


def a_sibling_is_sent_all_the_same() -> list[Patch]:
    """H19: what filled since the decision does not stop an order that was decided on without it."""
    return [(order_sender, "with_group", lambda group, **how: ()), without_objection("the fills of group")]


def an_excess_is_not_told() -> list[Patch]:
    """A fill that was faster than the cancel of its sibling raises no finding."""

    honest = venue_reconciler.gather_inputs

    def gather(*given: Any, **more: Any) -> Any:
        return replace(honest(*given, **more), overfilled=None)

    return [(venue_reconciler, "gather_inputs", gather)]


def a_group_in_two_appends() -> list[Patch]:
    """The members of a group are recorded before what binds them."""
    honest = handler.CommandHandler._append

    async def append(self: handler.CommandHandler, writes: Any, command_id: bytes, **more: Any) -> None:
        binds = len(writes) > 2
        await honest(self, writes[1:] if binds else writes, command_id, **more)
        if binds:
            await honest(self, writes[:1], command_id[::-1], **more)

    return [(handler.CommandHandler, "_append", append)]


def who_lacks_room_waits_for_ever() -> list[Patch]:
    """Section 7: a run that waits for the rate limit resumes when there is capacity."""
    honest = WorkQueue.park

    def park(self: WorkQueue, key: str, priority: Priority, until_ns: int) -> None:
        honest(self, key, priority, until_ns + 3_600 * NS_PER_S)

    return [(WorkQueue, "park", park)]


def each_order_is_weighed_alone() -> list[Patch]:
    """Pre-trade limits: what is at stake already counts for nothing."""
    return [(limit_gate.Reservations, "over", lambda self, exposure, symbol_id, *, but: limit_gate.NOTHING)]


MUTANTS: dict[str, Callable[[], list[Patch]]] = {
    bug.__name__: bug
    for bug in (
        number_goes_on_after_absence, a_refusal_spends_the_id, grace_is_forgotten, grace_without_read_lag,
        sent_whenever, sent_without_the_lease,
        older_epochs_may_write, recorded_after_the_send, refusal_for_duplicate, silence_is_no, server_error_is_no,
        refused_cancel_is_death, acts_on_what_is_not_folded, a_closed_order_takes_no_fill, fills_count_each_time,
        totals_are_added, busts_are_forgotten, the_rest_from_trades_alone, watermark_by_the_stream,
        a_partial_list_is_believed, missing_is_closed, absence_without_a_window,
        late_orders_are_ignored, second_orders_may_stay, own_cancels_are_a_surprise, canceled_means_gone,
        questions_without_a_pause,
        amend_grace_is_forgotten, an_ended_order_ends_its_replace, a_refused_change_ends_the_order,
        an_amend_keeps_the_old_generation,
        acknowledged_before_the_commit, the_dead_leaders_calls_are_waited_for, unknown_is_no_obstacle,
        a_batch_is_folded_once,
        the_other_leg_stays, children_before_the_parent, each_child_for_itself, siblings_do_not_shrink,
        a_sibling_is_sent_all_the_same, an_excess_is_not_told, a_group_in_two_appends,
        who_lacks_room_waits_for_ever, each_order_is_weighed_alone,
        *bystander_mutants.BUGS,
        *venue_mutants.BUGS,
    )
}  # fmt: skip
"""Every bug by its name."""


@contextlib.contextmanager
def planted(name: str) -> Iterator[None]:
    """The kernel with a bug in it, for as long as the block runs."""
    with contextlib.ExitStack() as stack:
        for where, attribute, instead in MUTANTS[name]():
            stack.callback(setattr, where, attribute, getattr(where, attribute))
            setattr(where, attribute, instead)
        yield

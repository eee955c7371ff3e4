"""Planted bugs in halts, external orders, heartbeats and manual resolutions.

Used by `mutants`. The name says what the kernel does wrong; the docstring, the rule that it breaks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from kernel import controller
from kernel.lifecycle import decide_resolution
from kernel.models import AttemptKind, AttemptOutcome, ExternalOrderPolicy
from kernel.reconciler import decide_run
from kernel.runtime import dead_man_switch, external_orders
from kernel.safety import heartbeat
from kernel.safety.readiness import NOT_PAUSED
from kernel.safety.trading_halts import TradingStatus
from projections.state_fold import Fold

Patch = tuple[object, str, object]
"""(module or class, name, replacement)."""


# ----------------------------------------------------------------------------------------------------------------- halts
def a_halt_lets_new_orders_pass() -> list[Patch]:
    """Under a halt nothing is placed."""
    return [(TradingStatus, "missing", held_for(lambda kind: kind is AttemptKind.SUBMIT))]


def held_for(passes: Callable[[AttemptKind], bool]) -> Callable[..., tuple[str, ...]]:
    honest = TradingStatus.missing

    def missing(self: TradingStatus, conditions: Any, *, kind: AttemptKind, **about: Any) -> tuple[str, ...]:
        if not passes(kind):
            return honest(self, conditions, kind=kind, **about)
        free = replace(self, every=None, symbols={})
        return honest(free, (name for name in conditions if name != NOT_PAUSED), kind=kind, **about)

    return missing


def a_halt_leaves_what_works() -> list[Patch]:
    """A halt cancels open orders."""

    async def cancel_all(self: Any, symbol_id: str | None, actor: str) -> int:
        return 0

    return [(controller.EventSourcedKernel, "_cancel_all", cancel_all)]


# -------------------------------------------------------------------------------------------------------- foreign orders
def ignored_orders_are_canceled() -> list[Patch]:
    """IGNORE: external orders are left alone."""
    return [with_policy(ExternalOrderPolicy.CANCEL, instead_of=ExternalOrderPolicy.IGNORE)]


def with_policy(policy: ExternalOrderPolicy, *, instead_of: ExternalOrderPolicy) -> Patch:
    honest = external_orders.ExternalOrders.__init__

    def init(
        self: external_orders.ExternalOrders,
        state: Any,
        writer: Any,
        venue: Any,
        clock: Any,
        settings: Any,
        on_fenced: Any,
    ) -> None:
        swapped = settings.external_orders is instead_of
        settings = settings.model_copy(update={"external_orders": policy}) if swapped else settings
        honest(self, state, writer, venue, clock, settings, on_fenced)

    return (external_orders.ExternalOrders, "__init__", init)


def orders_of_other_kernels_are_taken() -> list[Patch]:
    """Two kernels on one account do not adopt each other's orders."""
    return [(external_orders, "is_kernel_client_id", lambda client_order_id: False)]


def a_list_shows_nothing_to_adopt() -> list[Patch]:
    """Level, not edge: an order whose reports were lost is adopted by the list that shows it."""
    reports = external_orders.ORDER_EVIDENCE - {external_orders.ExecType.ORDER_STATUS}
    return [(external_orders, "ORDER_EVIDENCE", reports)]


def an_adopted_trade_counts_twice() -> list[Patch]:
    """Trades of an external order are booked to its intent once adopted, and only there."""
    return [(Fold, "_adopt", lambda self, after, event: None)]


def what_others_trade_is_not_told() -> list[Patch]:
    """A trade of an external order is a finding."""
    return [(external_orders.ExternalOrders, "_unexpected", lambda self, report, found: [])]


# ------------------------------------------------------------------------------------------------------------ heartbeats
def silence_counts_from_the_first_beat() -> list[Patch]:
    """The gap counts from the newest heartbeat."""
    honest = heartbeat.observe

    def listened(ears: Any, beats: Any, **when: Any) -> Any:
        found = honest(ears, beats, **when)
        return {
            owner: replace(ear, since_ns=ears[owner].since_ns) if owner in ears else ear for owner, ear in found.items()
        }

    return [(heartbeat, "observe", listened)]


def silence_takes_what_others_want() -> list[Patch]:
    """An owner with heartbeats keeps its orders, whichever other owner misses its own."""
    honest = dead_man_switch.DeadManSwitch._revoked_intents

    def wishes(self: dead_man_switch.DeadManSwitch, owner: str) -> list[str]:
        others = [item.intent_id for item in self._state.intents() if item.owner and item.desired == "WORKING"]
        return [*honest(self, owner), *others]

    def is_withdrawn(beat: Any, wished_position: int | None) -> bool:
        return beat is not None

    return [(dead_man_switch.DeadManSwitch, "_revoked_intents", wishes), (heartbeat, "is_revoked", is_withdrawn)]


def a_beat_is_not_waited_for() -> list[Patch]:
    """A lapse is recorded under the stream version of the heartbeats that it was decided on."""
    honest = dead_man_switch.DeadManSwitch._lapse

    async def lapse(self: dead_man_switch.DeadManSwitch, beat: Any, epoch: int, *, silent_ns: int) -> None:
        await honest(self, replace(beat, version=None), epoch, silent_ns=silent_ns)

    def silent(ears: Any, beats: Any, *, now_ns: int) -> list[Any]:
        armed = [beat for beat in beats.values() if beat.ttl_ns is not None and not beat.lapsed and beat.owner in ears]
        return [beat for beat in armed if now_ns - ears[beat.owner].since_ns >= beat.ttl_ns // 3]

    return [(dead_man_switch.DeadManSwitch, "_lapse", lapse), (heartbeat, "newly_silent", silent)]


def what_the_silent_place_stays() -> list[Patch]:
    """Intents that a lapsed owner creates are revoked as well."""
    honest = heartbeat.is_revoked

    def is_withdrawn(beat: Any, wished_position: int | None) -> bool:
        return honest(beat, wished_position) and (wished_position or 0) < beat.lapsed_position

    return [(heartbeat, "is_revoked", is_withdrawn)]


# ------------------------------------------------------------------------------------------------------ operators' words
def a_word_comes_before_the_evidence() -> list[Patch]:
    """No manual resolution while a status query can still resolve the attempt."""
    return [(decide_resolution, "refuse_while_evidence_may_come", lambda record, attempt, now_ns: None)]


def dead_by_a_word_spends_the_id() -> list[Patch]:
    """A request that never arrived is sent again under its id."""
    honest = decide_run.next_submit_number

    def next_number(known: Any) -> int:
        last = known.submit
        said = last is not None and last.outcome is AttemptOutcome.DEAD and last.text == "seen at the venue"
        return known.number + 1 if said else honest(known)

    return [(decide_run, "next_submit_number", next_number)]


BUGS: tuple[Callable[[], list[Patch]], ...] = (
    a_halt_lets_new_orders_pass, a_halt_leaves_what_works,
    ignored_orders_are_canceled, orders_of_other_kernels_are_taken, a_list_shows_nothing_to_adopt,
    an_adopted_trade_counts_twice, what_others_trade_is_not_told,
    silence_counts_from_the_first_beat, silence_takes_what_others_want, a_beat_is_not_waited_for,
    what_the_silent_place_stays,
    a_word_comes_before_the_evidence, dead_by_a_word_spends_the_id,
)  # fmt: skip

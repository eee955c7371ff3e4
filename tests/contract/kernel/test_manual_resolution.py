"""An operator settles what nothing can prove, and says that a finding was dealt with; where evidence is to come, not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec import structs

from kernel import events
from kernel.clock import LoopClock, SeededIds
from kernel.errors import ConflictError, NotFoundError, ValidationError
from kernel.log.engine.records import event_of
from kernel.models import AttemptOutcome, Evidence, FindingKind, OrdStatus, ReconciliationStatus
from kernel.venues.base import Dedupe, VenueCapabilities
from replay import open_kernel
from replay.testing.scripted_exchange import Answer
from tests.contract.kernel.test_pause import statuses
from tests.desk import Desk, a_desk
from tests.orders import buy

virtual_time = pytest.mark.looptime
ENDLESS = VenueCapabilities(dedupe=Dedupe.NONE)
"""A request may arrive at any time: no look proves that it never will (H5)."""


@asynccontextmanager
async def an_unknown_order() -> AsyncIterator[Desk]:
    """The order `mine` was sent, its request hangs, and nobody knows what became of it."""
    async with a_desk(capabilities=ENDLESS) as desk:
        desk.exchange.hold("submit", "reports")
        await desk.kernel.place_order(buy(), intent_id="mine", wait="recorded")
        await asyncio.sleep(70)
        desk.exchange.flow()
        yield desk


async def status(desk: Desk) -> ReconciliationStatus:
    return (await desk.kernel.get_order_state("mine")).reconciliation_status


def standing(desk: Desk) -> list[FindingKind]:
    return [item.kind for item in desk.kernel.state.findings() if item.resolved_at_ns is None]


@virtual_time
async def test_a_dead_submit_is_sent_again() -> None:
    """The verdict has the operator and the evidence; the order is sent under the same id, and the finding ends."""
    async with an_unknown_order() as desk:
        assert await status(desk) is ReconciliationStatus.UNKNOWN
        assert standing(desk) == [FindingKind.UNKNOWN_TOO_LONG]
        await desk.kernel.resolve_attempt(
            "mine", AttemptOutcome.DEAD, evidence="their desk says so", actor="operator:ann"
        )
        await asyncio.sleep(5)
        assert statuses(desk) == [OrdStatus.NEW]
        assert await status(desk) is ReconciliationStatus.SYNCED
        assert standing(desk) == []
        stream = await desk.log.read_stream(events.intent_stream("mine"))
        (verdict,) = [item for item in stream if isinstance(item, events.AttemptResolved)]
        assert (verdict.actor, verdict.evidence, verdict.text) == (
            "operator:ann", Evidence.OPERATOR, "their desk says so"
        )  # fmt: skip
        ids = {item.client_order_id for item in stream if isinstance(item, events.AttemptStarted)}
        assert len(ids) == 1


@virtual_time
async def test_a_dead_submit_of_a_canceled_intent_is_not_sent_again() -> None:
    """A canceled intent's submit is not sent again."""
    async with an_unknown_order() as desk:
        await desk.kernel.cancel_order("mine", wait="recorded")
        await asyncio.sleep(20)
        assert await status(desk) is ReconciliationStatus.UNKNOWN
        await desk.kernel.resolve_attempt("mine", AttemptOutcome.DEAD, evidence="asked them")
        await asyncio.sleep(20)
        assert statuses(desk) == []
        assert (await desk.kernel.get_order_state("mine")).status.ord_status is OrdStatus.CANCELED


@virtual_time
async def test_a_rejected_submit_ends_its_generation() -> None:
    """After REJECTED nothing is sent until the intent changes."""
    async with an_unknown_order() as desk:
        await desk.kernel.resolve_attempt("mine", AttemptOutcome.REJECTED, evidence="asked them")
        await asyncio.sleep(100)
        assert statuses(desk) == []
        assert await status(desk) is ReconciliationStatus.FAILED
        await desk.kernel.modify_order("mine", buy(3))
        assert statuses(desk) == [OrdStatus.NEW]


@virtual_time
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("outcome", [AttemptOutcome.DEAD, AttemptOutcome.REJECTED])
async def test_a_wrong_verdict_is_contained(outcome: AttemptOutcome, wanted: bool) -> None:
    """If the order appears after all, a finding is raised and at most one order works in the end (H8)."""
    async with an_unknown_order() as desk:
        if not wanted:
            await desk.kernel.cancel_order("mine", wait="recorded")
        await desk.kernel.resolve_attempt("mine", outcome, evidence="a guess")
        await asyncio.sleep(5)
        (late,) = [name for name in desk.exchange.wire if name.startswith("w")]
        desk.exchange.force(late)
        await asyncio.sleep(200)
        kinds = {item.kind for item in desk.kernel.state.findings()}
        assert kinds & {FindingKind.LATE_ACCEPT, FindingKind.DUPLICATE_ORDER}
        working = [item for item in desk.exchange.truth if item.open]
        assert len(working) == (1 if wanted and outcome is AttemptOutcome.DEAD else 0)


@virtual_time
async def test_a_pending_attempt_cannot_be_resolved() -> None:
    """A PENDING attempt is left to its call or the next leader, and nothing is recorded."""
    async with a_desk(capabilities=ENDLESS) as desk:
        desk.exchange.hold("submit")
        await desk.kernel.place_order(buy(), intent_id="mine", wait="recorded")
        await asyncio.sleep(1)
        with pytest.raises(ConflictError, match="PENDING"):
            await desk.kernel.resolve_attempt("mine", AttemptOutcome.DEAD, evidence="a guess")
        assert "AttemptResolved" not in await desk.topics("mine")


@virtual_time
async def test_an_attempt_that_a_query_will_resolve_cannot_be_resolved() -> None:
    """While a later status query can still prove the outcome, the error says how long that takes."""
    async with a_desk() as desk:
        desk.exchange.hold("submit")
        await desk.kernel.place_order(buy(), intent_id="mine", wait="recorded")
        await asyncio.sleep(1)
        (name,) = [name for name in desk.exchange.wire if name.startswith("w")]
        desk.exchange.fail(name, "reset")
        await asyncio.sleep(0.5)
        assert await status(desk) is ReconciliationStatus.UNKNOWN
        with pytest.raises(ConflictError, match=r"may still arrive for 1\.\d+ s"):
            await desk.kernel.resolve_attempt("mine", AttemptOutcome.DEAD, evidence="a guess")
        await asyncio.sleep(10)
        stream = await desk.log.read_stream(events.intent_stream("mine"))
        assert {item.evidence for item in stream if isinstance(item, events.AttemptResolved)} == {Evidence.QUERY}


@virtual_time
async def test_only_unknown_attempts_can_be_resolved() -> None:
    """An unknown intent, nothing unresolved, no evidence and an impossible outcome are errors."""
    async with an_unknown_order() as desk:
        resolve = desk.kernel.resolve_attempt
        with pytest.raises(NotFoundError, match="nobody"):
            await resolve("nobody", AttemptOutcome.DEAD, evidence="e")
        with pytest.raises(ValidationError, match="evidence"):
            await resolve("mine", AttemptOutcome.DEAD, evidence=" ")
        with pytest.raises(ValidationError, match="must be DEAD or REJECTED for a SUBMIT attempt"):
            await resolve("mine", AttemptOutcome.ACCEPTED, evidence="e")
        with pytest.raises(ConflictError, match="nothing to resolve"):
            await resolve("mine", AttemptOutcome.DEAD, evidence="e", attempt_position=1)
        await resolve("mine", AttemptOutcome.DEAD, evidence="e")
        await asyncio.sleep(5)
        with pytest.raises(ConflictError, match="nothing to resolve"):
            await resolve("mine", AttemptOutcome.DEAD, evidence="e")


@virtual_time
async def test_a_kernel_without_leadership_can_resolve() -> None:
    """An operator's process resolves the attempt, and the leader acts on it."""
    async with (
        an_unknown_order() as desk,
        open_kernel(desk.log, clock=LoopClock(), ids=SeededIds(9), actor="operator:bob") as other,
    ):
        await other.resolve_attempt("mine", AttemptOutcome.DEAD, evidence="asked them")
        await asyncio.sleep(5)
        assert statuses(desk) == [OrdStatus.NEW]


# --------------------------------------------------------------------------------------------------------------- findings
@virtual_time
async def test_a_finding_of_an_intent_is_resolved_in_its_stream() -> None:
    """It is recorded with actor and evidence in the intent's stream; resolving it again is a conflict."""
    async with an_unknown_order() as desk:
        name = "UNKNOWN_TOO_LONG:mine"
        await desk.kernel.resolve_finding(name, evidence="looked into it", actor="operator:ann")
        stream = await desk.log.read_stream(events.intent_stream("mine"))
        (resolved,) = [item for item in stream if isinstance(item, events.FindingResolved)]
        assert (resolved.actor, resolved.text) == ("operator:ann", "looked into it")
        assert name not in desk.kernel.state.record("mine").findings
        with pytest.raises(ConflictError, match="resolved already"):
            await desk.kernel.resolve_finding(name, evidence="again")
        with pytest.raises(NotFoundError, match="get findings"):
            await desk.kernel.resolve_finding("nothing", evidence="e")
        with pytest.raises(ValidationError, match="evidence"):
            await desk.kernel.resolve_finding(name, evidence="")


def deposit(desk: Desk, amount: int) -> None:
    """The account gets so much of X, and nobody reports it."""
    exchange, snapshot = desk.exchange, desk.exchange.do_snapshot

    def with_deposit(since_ns: int, asker: str) -> Answer:
        open_orders, fills, balances = snapshot(since_ns, asker)
        more = structs.replace(balances["X"], total=balances["X"].total + amount)
        return open_orders, fills, {**balances, "X": more}

    exchange.do_snapshot = with_deposit  # type: ignore[method-assign] # what the exchange has is what is changed


@virtual_time
async def test_a_resolved_drift_is_booked_as_a_transfer() -> None:
    """A transfer explains the drift; the next snapshot finds none, and a new drift is a new finding."""
    async with a_desk() as desk:
        deposit(desk, 2)
        await asyncio.sleep(130)
        assert standing(desk) == [FindingKind.BALANCE_DRIFT]
        await desk.kernel.resolve_finding("BALANCE_DRIFT:X", evidence="a deposit", actor="operator:ann")
        await asyncio.sleep(130)
        assert standing(desk) == []
        rows = [event_of(row) async for page in desk.log.read() for row in page if row.topic == "TransferObserved"]
        assert [(getattr(row, "amount", 0), row.actor, row.evidence) for row in rows] == [
            (2, "operator:ann", Evidence.OPERATOR)
        ]
        deposit(desk, 1)
        await asyncio.sleep(130)
        assert standing(desk) == [FindingKind.BALANCE_DRIFT]

"""One drill: start everything, work under faults, stop the faults, wait for convergence, audit.

Called by `python -m tests.drill` and by `tests/integration/test_drill.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from kernel.controller import EventSourcedKernel
from kernel.errors import KernelError
from kernel.log import LogSettings, open_log
from kernel.models import Desired, ReconciliationStatus
from projections import State
from replay import open_kernel, verify
from tests.drill.acts import Acts
from tests.drill.cluster import EXCHANGE_ID, Cluster, LogKind, last_words
from tests.drill.crew import RECONNECT_TIMEOUT_S, Sailor
from tests.drill.report import Report
from tests.drill.rows import Unreadable

START_TIMEOUT_S = 90.0
CREW_TIMEOUT_S = 90.0
"""Time for the crew to get every answer after the faults."""
CONVERGE_TIMEOUT_S = 90.0
"""Time for convergence after that."""
SAILORS = 5
ENDED = (ReconciliationStatus.SYNCED, ReconciliationStatus.FAILED)


@dataclass(frozen=True, slots=True)
class Plan:
    """The parameters of a drill."""

    seconds: float
    seed: int = 1
    log: LogKind = "postgresql"
    pace_s: float = 0.15
    """Average pause of a strategy between two commands."""
    freeze_s_max: float = 15.0
    """Longest SIGSTOP."""


async def drill(plan: Plan, *, say: Callable[[str], None] = print) -> Report:
    """Run a drill and return its report; everything is stopped and removed at the end."""
    report = Report(plan.seed, say)
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster(plan.log, report, seed=plan.seed))
        report.did(f"the drill begins: seed {plan.seed}, {plan.seconds:g} s, {plan.log}")
        log = await _opened_log(cluster)
        stack.push_async_callback(log.close)
        kernel = await stack.enter_async_context(open_kernel(log, actor="strategy:crew"))
        await _play(cluster, kernel, plan)
    report.did("everything is stopped")
    return report


async def _opened_log(cluster: Cluster) -> Any:
    """Open the crew's log, with a short reconnect timeout."""
    settings = LogSettings(reconnect_timeout_s=RECONNECT_TIMEOUT_S)
    return await asyncio.to_thread(open_log, cluster.url, exchange_id=EXCHANGE_ID, settings=settings)


async def _play(cluster: Cluster, kernel: EventSourcedKernel, plan: Plan) -> None:
    watching = asyncio.create_task(cluster.witness.watch(), name="witness")
    crew = [
        Sailor(f"s{number}", kernel, cluster.witness, cluster.report, seed=plan.seed, pace_s=plan.pace_s)
        for number in range(SAILORS)
    ]
    working: list[asyncio.Task[None]] = []
    acts = Acts(cluster, seed=plan.seed, freeze_s_max=plan.freeze_s_max)
    try:
        await _first_leader(cluster, kernel)
        working += [asyncio.create_task(sailor.work(), name=f"sailor-{number}") for number, sailor in enumerate(crew)]
        await acts.run(plan.seconds)
        await cluster.all_up()
        cluster.report.did("the faults have stopped")
        stopped_s = time.monotonic()
        for sailor in crew:
            sailor.stopping = True
        await _home(cluster.report, working)
        converged = await _converged(cluster, kernel, since_s=stopped_s)
    finally:
        await acts.close()
        for task in (watching, *working):
            task.cancel()
        await asyncio.gather(watching, *working, return_exceptions=True)
    await _audit(cluster, kernel, converged=converged)


async def _first_leader(cluster: Cluster, kernel: EventSourcedKernel) -> None:
    """Wait until there is a leader and the symbols are known."""
    async with asyncio.timeout(START_TIMEOUT_S):
        while cluster.leader is None or not await kernel.list_symbols():
            await asyncio.sleep(0.05)


async def _home(report: Report, working: list[asyncio.Task[None]]) -> None:
    """Wait until the crew has every answer."""
    done, late = await asyncio.wait(working, timeout=CREW_TIMEOUT_S)
    for task in done:
        if (problem := task.exception()) is not None:
            report.problem(f"{task.get_name()} failed: {problem!r}")
    for task in late:
        report.problem(f"{task.get_name()} still has commands that are not answered")


# ------------------------------------------------------------------------------------------------------------- the end
async def _converged(cluster: Cluster, kernel: EventSourcedKernel, *, since_s: float) -> bool:
    """Return whether everything converges in time after the faults."""
    began_s = time.monotonic()
    while left := unsettled(kernel):
        if time.monotonic() - began_s > CONVERGE_TIMEOUT_S:
            cluster.report.problem(f"not converged after {CONVERGE_TIMEOUT_S:g} s: {', '.join(left[:10])}")
            cluster.report.did(last_words(cluster.talk))
            return False
        await asyncio.sleep(0.2)
    cluster.report.converged_s = time.monotonic() - since_s
    cluster.report.did(f"all is well after {cluster.report.converged_s:.1f} s")
    return True


def unsettled(kernel: EventSourcedKernel) -> list[str]:
    """Return what has not converged yet."""
    left = [
        f"{state.intent_id} {state.reconciliation_status}"
        for state in kernel.state.order_states()
        if state.reconciliation_status not in ENDED
    ]
    known = {state.intent_id for state in kernel.state.order_states()}
    left += [
        f"{intent_id} not sent"
        for intent_id in kernel.state.live_intent_ids()
        if intent_id not in known
        and (intent := kernel.state.intent(intent_id)) is not None
        and intent.desired is Desired.WORKING
    ]
    left += [
        f"finding {finding.finding_id}"
        for finding in kernel.state.findings()
        if finding.resolved_at_ns is None and finding.kind.endswith("_DRIFT")
    ]
    return left


async def _audit(cluster: Cluster, kernel: EventSourcedKernel, *, converged: bool) -> None:
    """Stop the writers, compare log, exchange, memory and a fresh fold, and verify the log."""
    await cluster.stop_kernels()
    auditor, report = cluster.auditor, cluster.report
    try:
        await cluster.witness.catch_up()
        truth = await cluster.witness.truth()
    except (Unreadable, KernelError) as error:
        report.problem(f"log and exchange can't be read at the end: {error!r}")
        return
    head = await kernel.log.head()
    await kernel.state.reached(head.position)
    if converged:
        auditor.finish(truth, [await _shown(kernel, intent_id) for intent_id in await _known(kernel)])
        auditor.positions({item.symbol_id: item.quantity for item in await kernel.get_positions()})
    assert isinstance(kernel.state, State)
    auditor.digests({"live": kernel.state.digest(), "folded again": await _folded_again(cluster, head.position)})
    for problem in auditor.problems:
        report.problem(str(problem))
    for item in (await verify(kernel.log)).problems:
        report.problem(f"verify: {item}")


async def _known(kernel: EventSourcedKernel) -> list[str]:
    """Return the intents with an order state; those canceled before a send have none."""
    return [state.intent_id for state in await kernel.get_all_orders()]


async def _shown(kernel: EventSourcedKernel, intent_id: str) -> dict[str, Any]:
    """Return what a query shows of an intent."""
    state = await kernel.get_order_state(intent_id)
    return {
        "intent_id": intent_id,
        "ord_status": str(state.status.ord_status),
        "cum_qty": state.status.cum_qty,
        "reconciliation_status": str(state.reconciliation_status),
    }


async def _folded_again(cluster: Cluster, position: int) -> str:
    """Return the digest of a state folded from position 1, with every hash checked."""
    state = State()
    log = await asyncio.to_thread(open_log, cluster.url, exchange_id=EXCHANGE_ID)
    async with log:
        async for batch in log.tail(0):
            state.apply(batch)
            if state.position >= position:
                break
    return state.digest()

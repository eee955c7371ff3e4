"""The crew: strategies that place, cancel, read and retry orders at a steady rate, and record the answers.

Run by the drill in its own process, on a kernel without a venue. A command ends in one of three ways: it is answered, it
is refused by a `KernelError` that says why, or it is late: not back after all of its timeouts together, which is a problem.
What was refused because the log was away is asked for again under the same id, until it is answered.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from functools import partial

from msgspec import structs

from kernel.controller import EventSourcedKernel
from kernel.errors import ExchangeError, KernelError, NotFoundError, NotReadyError
from kernel.order_spec import OrderType, Side, StandardOrder
from tests.drill.report import Report
from tests.drill.witness import Witness

RECONNECT_TIMEOUT_S = 3.0
"""Reconnect timeout of the crew's log; outages are shorter and longer."""
ACK_TIMEOUT_S = 1.0
LATE_S = 60.0
"""A command without an answer by then hangs; its own timeouts are far shorter."""
OPEN_MAX = 60
"""Most open orders of one strategy, as the symbol has a limit."""

RESTING = StandardOrder(
    symbol_id="BTCUSDT", side=Side.BUY, order_type=OrderType.LIMIT, quantity=10_000, price=5_000_000
)
TAKING = structs.replace(RESTING, price=6_800_000)
SELLING = structs.replace(RESTING, side=Side.SELL, price=5_500_000)
TOO_DEAR = structs.replace(RESTING, quantity=100 * 10**8, price=6_000_000)
"""A quantity beyond the account's funds, which the exchange rejects for good."""
ORDERS = (RESTING, RESTING, RESTING, TAKING, TAKING, SELLING)


class Sailor:
    """One strategy."""

    def __init__(
        self, name: str, kernel: EventSourcedKernel, witness: Witness, report: Report, *, seed: int, pace_s: float
    ) -> None:
        self.placed: dict[str, StandardOrder] = {}
        """What was asked for, answered or not."""
        self._name = name
        self._kernel = kernel
        self._witness = witness
        self._report = report
        self._chance = random.Random(f"{seed}-{name}")
        self._pace_s = pace_s
        self._open: list[str] = []
        """Answered, and not canceled by us."""
        self._again: list[str] = []
        """Refused while the log was away."""
        self.stopping = False

    async def work(self) -> None:
        """Command and ask until told to stop; then see to it that everything asked for was answered."""
        while not self.stopping:
            await self._act()
            await asyncio.sleep(self._chance.uniform(0.5, 1.5) * self._pace_s)
        while self._again:
            await self._place(self._again.pop(0))
            await asyncio.sleep(self._pace_s)

    async def _act(self) -> None:
        drawn = self._chance.random()
        if self._again and drawn < 0.5:
            await self._place(self._again.pop(0))
        elif len(self._open) > OPEN_MAX or (drawn < 0.3 and self._open):
            await self._cancel(self._open.pop(self._chance.randrange(len(self._open))))
        elif drawn < 0.45 and self._open:
            await self._read(self._chance.choice(self._open))
        elif drawn < 0.52 and self._open:
            await self._place(self._chance.choice(self._open))
        else:
            await self._place_new()

    async def _place_new(self) -> None:
        intent_id = f"{self._name}-{len(self.placed)}"
        self.placed[intent_id] = TOO_DEAR if self._chance.random() < 0.04 else self._chance.choice(ORDERS)
        await self._place(intent_id)

    async def _place(self, intent_id: str) -> None:
        """Ask for an order, for the first time or again: that must come to the same."""
        wait = self._chance.choice(("ack", "ack", "recorded"))
        asking = self._kernel.place_order(
            self.placed[intent_id],
            intent_id=intent_id,
            owner=self._name,
            wait=wait,  # type: ignore[arg-type]  # one of the two words
            ack_timeout_s=ACK_TIMEOUT_S,
        )
        answer = await self._answer(f"place ({wait})", asking)
        if answer is None:
            self._witness.tell(partial(self._witness.auditor.acknowledged, kind="place", intent_id=intent_id))
            if intent_id not in self._open:
                self._open.append(intent_id)
        elif isinstance(answer, ExchangeError):
            known = self._kernel.state.intent(intent_id)
            generation = known.generation if known is not None else 1
            self._witness.tell(partial(self._witness.auditor.refused, intent_id=intent_id, generation=generation))
        elif isinstance(answer, NotReadyError):
            self._again.append(intent_id)
        else:
            self._report.problem(f"place {intent_id} was refused by {answer!r}")

    async def _cancel(self, intent_id: str) -> None:
        wait = self._chance.choice(("ack", "recorded"))
        asking = self._kernel.cancel_order(
            intent_id,
            wait=wait,  # type: ignore[arg-type]  # one of the two words
            ack_timeout_s=ACK_TIMEOUT_S,
        )
        answer = await self._answer(f"cancel ({wait})", asking)
        if answer is None:
            self._witness.tell(partial(self._witness.auditor.acknowledged, kind="cancel", intent_id=intent_id))
        elif isinstance(answer, NotReadyError):
            self._open.append(intent_id)
        elif not isinstance(answer, ExchangeError):
            self._report.problem(f"cancel {intent_id} was refused by {answer!r}")

    async def _read(self, intent_id: str) -> None:
        """Queries answer from memory, whatever is away."""
        try:
            async with asyncio.timeout(LATE_S):
                state = await self._kernel.get_order_state(intent_id)
        except NotFoundError:
            self._report.commands["read: not sent yet"] += 1
            return
        except (KernelError, TimeoutError) as problem:
            self._report.problem(f"reading {intent_id} came to {problem!r}")
            return
        self._report.commands["read"] += 1
        self._witness.auditor.read(
            intent_id=intent_id,
            ord_status=str(state.status.ord_status),
            cum_qty=state.status.cum_qty,
            reconciliation_status=str(state.reconciliation_status),
        )

    async def _answer(self, what: str, asking: Awaitable[object]) -> KernelError | None:
        """What a command was answered: None, or the error that refused it."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            async with asyncio.timeout(LATE_S):
                await asking
        except TimeoutError:
            self._report.problem(f"{what} hangs: it was not back after {LATE_S:g} s")
            return NotReadyError("late")
        except KernelError as problem:
            self._report.commands[f"{what} refused by {type(problem).__name__}"] += 1
            return problem
        except Exception as problem:
            self._report.problem(f"{what} came to {problem!r}")
            return NotReadyError("broken")
        timed_out = "(ack)" in what and loop.time() - began_s >= ACK_TIMEOUT_S
        self._report.commands[f"{what} {'timed out' if timed_out else 'acknowledged'}"] += 1
        return None

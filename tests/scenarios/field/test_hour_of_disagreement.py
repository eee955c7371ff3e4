"""One hour at a venue that disagrees with everything: bounded requests and events for each intent.

`python -m tests.scenarios.field.test_hour_of_disagreement` prints the figures, with the CPU time and the growth of the log.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress

import msgspec
import pytest

from kernel import events
from kernel.errors import ExchangeError, NotSent, OutcomeUnknown, Rejected
from kernel.models import ExecType, OrdStatus, UnsolicitedCancelPolicy
from kernel.venues.base import AmendDialect, CancelRequest, ExecutionReport, ModifyRequest, SubmitRequest
from replay.testing import run_virtually
from tests.scenarios.field.lab import COIN, FieldOrder, FieldVenue, Lab, field_lab, order

INTENTS = 12
SENDS_MAX = 36 * 6
"""Submits and changes of one intent in an hour, as in the worst ten minutes."""
CANCELS_MAX = SENDS_MAX + 130
"""A cancel for each send, where a change needs one, and those without effect of one order that never ends."""
EVENTS_PER_SEND_MAX = 10
BYTES_PER_EVENT_MAX = 700


class Contrary:
    """Answers each request in another wrong way."""

    def __init__(self, venue: FieldVenue, seed: int) -> None:
        self.venue, self.random = venue, random.Random(seed)
        venue.on_submit, venue.on_modify, venue.on_cancel = self.submit, self.modify, self.cancel

    def submit(self, request: SubmitRequest) -> ExecutionReport:
        self.refuse()
        item = self.venue.new_order(request)
        self.distort(item)
        if self.random.random() < 0.5:
            status = self.random.choice([OrdStatus.CANCELED, OrdStatus.EXPIRED])
            asyncio.get_running_loop().call_later(self.random.choice([0, 0, 1, 30, 61]), self.undo, item, status)
        return self.venue.report(item, ExecType.NEW)

    def modify(self, request: ModifyRequest) -> ExecutionReport:
        self.refuse()
        item = self.venue.target(request)
        if self.random.random() < 0.5:
            item.quantity, item.price = request.order.quantity, request.order.price
            self.distort(item)
        names = {"client_order_id": request.client_order_id, "orig_client_order_id": item.client_order_id}
        item.client_order_id = request.client_order_id
        return self.venue.report(item, ExecType.REPLACED, **names)

    def cancel(self, request: CancelRequest) -> ExecutionReport:
        self.refuse()
        if self.random.random() < 0.5:
            return self.venue.report(self.venue.target(request), ExecType.ORDER_STATUS)
        return self.venue.do_cancel(request)

    def refuse(self) -> None:
        match self.random.randrange(8):
            case 0:
                raise Rejected("not now", retry_after_s=self.random.choice([0.001, 1, 20]))
            case 1:
                raise OutcomeUnknown("502")
            case 2:
                raise NotSent("the connection is down")

    def distort(self, item: FieldOrder) -> None:
        match self.random.randrange(3):
            case 0 if item.price is not None:
                item.price -= self.random.randrange(1, 9)
            case 1:
                item.quantity -= 1_000 * self.random.randrange(1, 9)

    def undo(self, item: FieldOrder, status: OrdStatus) -> None:
        if item.open:
            if self.random.random() < 0.3:
                self.venue.fill(item, 1_000)
            self.venue.end(item, status)


async def an_hour(lab: Lab, seed: int) -> None:
    """Place orders, change each every ten minutes, and cancel a third of them in the end."""
    Contrary(lab.venue, seed)
    policy = UnsolicitedCancelPolicy.RECREATE
    for number in range(INTENTS):
        await lab.kernel.place_order(
            order("BUY", COIN, 6_000_000 + number),
            intent_id=f"i{number}",
            on_unsolicited_cancel=policy,
            wait="recorded",
        )
    for tick in range(6):
        await asyncio.sleep(600)
        for number in range(tick % 3, INTENTS, 3):
            if tick == 4:
                with suppress(ExchangeError):  # it may have ended as EXPIRED
                    await lab.kernel.cancel_order(f"i{number}", wait="recorded")
            elif tick < 4:
                terms = order("BUY", COIN, 6_000_000 + 100 * tick + number)
                await lab.kernel.modify_order(f"i{number}", terms, wait="recorded")


async def counts(lab: Lab) -> tuple[Counter[str], Counter[str], int, int]:
    """Submits and changes by intent, cancels by intent, the number of events and their bytes."""
    sends: Counter[str] = Counter()
    cancels: Counter[str] = Counter()
    total = size = 0
    async for batch in lab.log.read(0):
        for row in batch:
            total, size = total + 1, size + len(row.state) + len(row.meta)
            if row.topic == events.AttemptStarted.topic:
                started = msgspec.json.decode(row.state)
                (cancels if started["kind"] == "CANCEL" else sends)[started["intent_id"]] += 1
    return sends, cancels, total, size


@pytest.mark.looptime
@pytest.mark.parametrize("amend", [AmendDialect.NONE, AmendDialect.IN_PLACE])
async def test_requests_and_events_of_an_hour_are_bounded(amend: AmendDialect) -> None:
    """Whatever the venue does wrong, each intent makes a bounded number of requests, and each request few events."""
    async with field_lab(amend=amend) as lab:
        await an_hour(lab, seed=1)
        sends, cancels, total, size = await counts(lab)
        assert max(sends.values()) <= SENDS_MAX
        assert max(cancels.values()) <= CANCELS_MAX
        listed = lab.venue.count("snapshot") * (INTENTS + 4)  # this venue dates each list item anew
        assert size <= BYTES_PER_EVENT_MAX * total
        assert total <= EVENTS_PER_SEND_MAX * (sends.total() + cancels.total()) + listed


async def main() -> None:
    for amend in (AmendDialect.NONE, AmendDialect.IN_PLACE, AmendDialect.CANCEL_REPLACE):
        async with field_lab(amend=amend) as lab:
            began = time.process_time()
            await an_hour(lab, seed=1)
            spent_s = time.process_time() - began
            sends, cancels, total, size = await counts(lab)
            calls = Counter(name for name, _ in lab.venue.calls)
            print(
                f"{amend.value}: {INTENTS} intents, {spent_s:.1f} s of CPU; {total} events, {size / 1e3:.0f} kB;"
                f" submits and changes {sends.total()} (at most {max(sends.values())} of one intent),"
                f" cancels {cancels.total()} (at most {max(cancels.values())}); calls {dict(calls)}"
            )


if __name__ == "__main__":
    run_virtually(main)

"""An adapter whose requests and answers get lost when a case says so, as a network loses them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from kernel.errors import OutcomeUnknown
from kernel.venues.base import ExecutionReport, ModifyRequest, SubmitRequest, Venue
from replay.testing.conformance.forwarding_venue import Answer, ForwardingVenue


class FaultyVenue(ForwardingVenue):
    """A venue that passes calls on, except those for which a fault is set; each fault happens once."""

    def __init__(self, inner: Venue, sent: Path) -> None:
        """`sent` is the file of all orders that were sent, by client order id and the venue's, for the clean-up."""
        super().__init__(inner)
        self._sent = sent
        self.lost_requests: set[str] = set()
        """Calls, by method name, that never arrive at the venue."""
        self.lost_answers: set[str] = set()
        """Calls that the venue executes and whose answer is lost."""
        self.exceptions: dict[str, Exception] = {}
        """Calls, or `reports`, that raise something that no adapter should raise."""
        self.after: Callable[[str], None] = lambda name: None
        """Called when the venue has executed a call, before its answer is returned."""
        self.before_submit: Callable[[SubmitRequest], Awaitable[object]] | None = None
        """Called once, before an order is passed on."""
        self.calls: Counter[str] = Counter()
        """How often each call was made."""

    async def call(self, name: str, make: Callable[[], Awaitable[Answer]]) -> Answer:
        self.calls[name] += 1
        if (problem := self.exceptions.pop(name, None)) is not None:
            raise problem
        if name in self.lost_requests:
            self.lost_requests.remove(name)
            raise OutcomeUnknown("the kit lost the request")
        answer = await make()
        self.after(name)
        if name in self.lost_answers:
            self.lost_answers.remove(name)
            raise OutcomeUnknown("the kit lost the answer")
        return answer

    async def submit(self, request: SubmitRequest) -> ExecutionReport:
        self._note(request.client_order_id, None)
        if self.before_submit is not None:
            before, self.before_submit = self.before_submit, None
            await before(request)
        return self._answered(await super().submit(request))

    async def modify(self, request: ModifyRequest) -> ExecutionReport:
        self._note(request.client_order_id, None)
        return self._answered(await super().modify(request))

    def _answered(self, report: ExecutionReport) -> ExecutionReport:
        self._note(report.client_order_id, report.exchange_order_id)
        return report

    def _note(self, *ids: str | None) -> None:
        with self._sent.open("a", encoding="utf-8") as file:
            file.write(json.dumps(ids) + "\n")

    async def reports(self) -> AsyncIterator[ExecutionReport | None]:
        async for report in super().reports():
            if (problem := self.exceptions.pop("reports", None)) is not None:
                raise problem
            yield report

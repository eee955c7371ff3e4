"""An adapter whose requests and answers get lost when a case says so, as a network loses them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

from kernel.errors import NotSent, OutcomeUnknown
from kernel.venues.base import ExecutionReport, Venue
from replay.testing.conformance.forwarding_venue import Answer, ForwardingVenue


class FaultyVenue(ForwardingVenue):
    """A venue that passes calls on, except those for which a fault is set; each fault happens once."""

    def __init__(self, inner: Venue) -> None:
        super().__init__(inner)
        self.lost_requests: set[str] = set()
        """Calls, by method name, that never arrive at the venue."""
        self.lost_answers: set[str] = set()
        """Calls that the venue executes and whose answer is lost."""
        self.exceptions: dict[str, Exception] = {}
        """Calls, or `reports`, that raise something that no adapter should raise."""
        self.after: Callable[[str], None] = lambda name: None
        """Called when the venue has executed a call, before its answer is returned."""
        self.unreachable = False
        """True while no session can be opened."""
        self.calls: Counter[str] = Counter()
        """How often each call was made."""

    async def call(self, name: str, make: Callable[[], Awaitable[Answer]]) -> Answer:
        self.calls[name] += 1
        if name == "connect" and self.unreachable:
            raise NotSent("the kit holds the connection down")
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

    async def reports(self) -> AsyncIterator[ExecutionReport | None]:
        async for report in super().reports():
            if (problem := self.exceptions.pop("reports", None)) is not None:
                raise problem
            yield report

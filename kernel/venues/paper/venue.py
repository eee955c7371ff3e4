"""`PaperVenue`: the port to the paper exchange, in this process or in another.

Made by whoever composes a kernel; called by it like any venue. With an address it is a client of the exchange process
(`paper_client`); without, it runs an exchange of its own (`paper_exchange`) from `connect` to `close`, or shares one that
is passed in. The two behave alike, faults included: a request that did not leave is `NotSent`, one without an answer is
`OutcomeUnknown`. It translates; it holds no policy and retries nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from os import PathLike
from typing import Any

from kernel.clock import Clock, SystemClock
from kernel.errors import NotFoundError
from kernel.order_spec import AssetMetadata, SymbolMetadata
from kernel.venues.base import (
    CancelRequest,
    ExecutionReport,
    ModifyRequest,
    RateUsage,
    SubmitGroupRequest,
    SubmitRequest,
    VenueCapabilities,
    VenueSnapshot,
)
from kernel.venues.paper.client import SocketTransport
from kernel.venues.paper.exchange import Answer, PaperExchange, Request
from kernel.venues.paper.faults import Fault, FaultOperation, FaultPlan, FaultSource
from kernel.venues.paper.matching.config import PaperConfig, PaperExchangeOptions, Speed, TapeSource
from kernel.venues.paper.transport import LocalTransport, Transport


class PaperVenue:
    """The paper exchange as a `Venue`."""

    def __init__(
        self,
        address: str | None = None,
        *,
        tape: TapeSource = None,
        symbol: str | None = None,
        seed: int = 0,
        speed: Speed = 1,
        loop: bool | None = None,
        config: PaperConfig | None = None,
        faults: FaultSource | None = None,
        journal: str | PathLike[str] | None = None,
        clock: Clock | None = None,
        timeout_s: float = 10.0,
        exchange: PaperExchange | None = None,
    ) -> None:
        """An address (`host:port` or the path of a socket) makes it a client; all about the exchange is then the
        process's business, and `faults` may only be a script, which is sent to it on connecting. `exchange` shares one
        that somebody else starts and stops. `ValidationError` for a tape, symbol or speed that cannot be."""
        self.clock: Clock = exchange.clock if exchange is not None else clock or SystemClock()
        self._timeout_s = timeout_s
        self._transport: Transport
        if address is not None:
            self._transport = SocketTransport(address, clock=self.clock, faults=_script(faults))
            return
        options = PaperExchangeOptions(
            tape=tape,
            symbol=symbol,
            seed=seed,
            speed=speed,
            loop=loop,
            config=config or PaperConfig(),
            journal=journal,
        )
        own = PaperExchange(options, clock=self.clock, faults=faults) if exchange is None else None
        self._transport = LocalTransport(own or exchange, owned=own is not None)

    @property
    def capabilities(self) -> VenueCapabilities:
        """What this venue can; of an exchange over the wire `NotSent` before the first connect."""
        return self._transport.capabilities

    @property
    def rate_usage(self) -> tuple[RateUsage, ...]:
        """The exchange's counters of its rate limits, as its newest answer told them; other clients' calls included."""
        return self._transport.rate_usage

    @property
    def exchange(self) -> PaperExchange:
        """The exchange in this process; `NotFoundError` when it is another process."""
        if not isinstance(self._transport, LocalTransport):
            raise NotFoundError("the exchange is another process")
        return self._transport.exchange

    async def connect(self) -> None:
        """Make a session; an in-process exchange starts. `NotSent` when there is none to reach. A journal that cannot
        be read is an `IntegrityError`: that is no matter of trying again."""
        await self._transport.open()

    async def close(self) -> None:
        """End the session; an in-process exchange of its own stops. Cancels nothing. Idempotent."""
        await self._transport.close()

    async def submit(self, request: SubmitRequest) -> ExecutionReport:
        """Place an order; its NEW report. Trades at once follow on the stream."""
        return _report(await self._call(FaultOperation.SUBMIT, request))

    async def submit_group(self, request: SubmitGroupRequest) -> list[ExecutionReport]:
        """Place orders that the exchange works as a group; the first report of each. All or none are taken."""
        answer = await self._call(FaultOperation.SUBMIT_GROUP, request)
        assert isinstance(answer, tuple), "a group is answered by a report for each order"
        return [*answer]

    async def modify(self, request: ModifyRequest) -> ExecutionReport:
        """Change an order; REPLACED, the NEW report of the order that took its place, or CANCELED when what is asked for
        has filled. `OutcomeUnknown` when no such order is open."""
        return _report(await self._call(FaultOperation.MODIFY, request))

    async def cancel(self, request: CancelRequest) -> ExecutionReport:
        """Cancel an order; the report of it. `OutcomeUnknown` when no such order is open."""
        return _report(await self._call(FaultOperation.CANCEL, request))

    async def order(self, symbol_id: str, client_order_id: str) -> ExecutionReport | None:
        """The newest order under a client order id; None when the exchange shows none."""
        found = await self._call(FaultOperation.ORDER, (symbol_id, client_order_id))
        return None if found is None else _report(found)

    async def snapshot(self, since_ns: int) -> VenueSnapshot:
        """Open orders, trades since an instant of the exchange, and balances."""
        began_ns = self.clock.now_ns()
        found = await self._call(FaultOperation.SNAPSHOT, since_ns)
        assert isinstance(found, VenueSnapshot), "a snapshot answers a snapshot"
        return found.model_copy(update={"began_ns": began_ns, "ended_ns": self.clock.now_ns()})

    async def symbols(self) -> list[SymbolMetadata]:
        """The symbols that can be traded."""
        return await self._transport.symbols(timeout_s=self._timeout_s)

    async def assets(self) -> list[AssetMetadata]:
        """The assets that the account can hold."""
        return await self._transport.assets(timeout_s=self._timeout_s)

    def reports(self) -> AsyncIterator[ExecutionReport]:
        """Reports of the present session, from its connect on, for one reader. Ends when the session does."""
        return self._transport.reports.stream()

    async def admin(self, op: str, **params: Any) -> Any:
        """An operator's act on the exchange: see `paper_admin`. In both forms the same names, parameters and results."""
        return await self._transport.admin(op, params, timeout_s=self._timeout_s)

    async def inject(self, fault: Fault) -> None:
        """Script one more fault."""
        await self.admin("fault", fault=fault.model_dump(mode="json"))

    async def truth(self) -> dict[str, Any]:
        """The exchange's own truth, for auditors."""
        found: dict[str, Any] = await self.admin("truth")
        return found

    def _call(self, operation: FaultOperation, request: Request) -> Awaitable[Answer]:
        return self._transport.call(operation, request, timeout_s=self._timeout_s)


def _report(answer: Answer) -> ExecutionReport:
    assert isinstance(answer, ExecutionReport), "an order request answers a report"
    return answer


def _script(faults: FaultSource | None) -> list[Fault]:
    """The scripted faults that are to be sent to an exchange process."""
    if faults is None:
        return []
    if not isinstance(faults, FaultPlan) or faults.rates is not None:
        raise ValueError("over the wire faults are a script: FaultPlan without rates (the process draws its own)")
    return [*faults.pending]

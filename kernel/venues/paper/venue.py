"""`PaperVenue`: the `Venue` adapter of the paper exchange, in this process or in another.

With an address it is a client of an exchange process (`client`); without one it runs its own exchange from `connect` to
`close`, or shares one. All behave alike, faults included.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from os import PathLike
from typing import Any

from msgspec import structs

from kernel.clock import Clock, SystemClock
from kernel.errors import NotFoundError
from kernel.order_spec import AssetMetadata, SymbolMetadata
from kernel.values import as_json
from kernel.venues import base
from kernel.venues.paper.client import SocketTransport
from kernel.venues.paper.exchange import Answer, PaperExchange, Request
from kernel.venues.paper.faults import Fault, FaultOperation, FaultPlan, FaultSource
from kernel.venues.paper.matching.config import PaperConfig, PaperExchangeOptions, Speed, TapeSource
from kernel.venues.paper.transport import LocalTransport


class PaperVenue(base.Venue):
    """The paper exchange as a `Venue`."""

    def __init__(
        self,
        address: str | None = None,
        *,
        tape: TapeSource = None,
        symbol: str | None = None,
        seed: int = 0,
        speed: Speed = 1,
        config: PaperConfig | None = None,
        faults: FaultSource | None = None,
        journal: str | PathLike[str] | None = None,
        clock: Clock | None = None,
        timeout_s: float = 10.0,
        exchange: PaperExchange | None = None,
    ) -> None:
        """Create an unconnected venue.

        Args:
            address: `host:port` or the path of a Unix socket of an exchange process; the other parameters of the exchange
                then do not apply, and `faults` may only be scripted. None for an exchange in this process.
            tape: The trades to play: a file, trades, or None for the shipped tape.
            symbol: The tape's symbol; by default from its file name.
            seed: Seed of the synthetic depth and of partial snapshots.
            speed: 1, a factor, `max`, or `step` (trade by trade on demand).
            config: The exchange's behavior; by default that of a Binance spot account without delays.
            faults: Faults to inject.
            journal: The exchange's durable file; None keeps everything in memory.
            clock: The source of time; by default the system's.
            timeout_s: Timeout of each request, in seconds.
            exchange: A shared exchange that the caller starts and stops.

        Raises:
            ValidationError: The address, the tape, its symbol or its speed is invalid.
        """
        self.clock: Clock = exchange.clock if exchange is not None else clock or SystemClock()
        self._timeout_s = timeout_s
        self._transport: SocketTransport | LocalTransport
        if address is not None:
            self._transport = SocketTransport(address, clock=self.clock, faults=_script(faults))
            return
        options = PaperExchangeOptions(
            tape=tape, symbol=symbol, seed=seed, speed=speed, config=config or PaperConfig(), journal=journal
        )
        shared = exchange or PaperExchange(options, clock=self.clock, faults=faults)
        self._transport = LocalTransport(shared, owned=exchange is None)

    @property
    def capabilities(self) -> base.VenueCapabilities:
        """See `Venue.capabilities`; raises `NotSent` before the first connect to another process."""
        return self._transport.capabilities

    @property
    def rate_usage(self) -> tuple[base.RateUsage, ...]:
        return self._transport.rate_usage

    @property
    def exchange(self) -> PaperExchange:
        """The exchange in this process; raises `NotFoundError` if it runs in another."""
        if not isinstance(self._transport, LocalTransport):
            raise NotFoundError("the exchange runs in another process")
        return self._transport.exchange

    async def connect(self) -> None:
        """See `Venue.connect`. Starts the venue's own exchange.

        Raises:
            NotSent: The exchange cannot be reached.
            IntegrityError: The exchange's journal is damaged.
        """
        await self._transport.open()

    async def close(self) -> None:
        """See `Venue.close`. Stops the venue's own exchange."""
        await self._transport.close()

    async def submit(self, request: base.SubmitRequest) -> base.ExecutionReport:
        """See `Venue.submit`. Returns the NEW report; immediate trades follow on the stream."""
        return _report(await self._call(FaultOperation.SUBMIT, request))

    async def submit_group(self, request: base.SubmitGroupRequest) -> list[base.ExecutionReport]:
        answer = await self._call(FaultOperation.SUBMIT_GROUP, request)
        assert isinstance(answer, tuple), "the answer to a group is a report of each order"
        return [*answer]

    async def modify(self, request: base.ModifyRequest) -> base.ExecutionReport:
        """See `Venue.modify`.

        Returns:
            REPLACED (in place), NEW (of the order that replaces it), or CANCELED if the new total has filled already.

        Raises:
            OutcomeUnknown: No such order is open.
        """
        return _report(await self._call(FaultOperation.MODIFY, request))

    async def cancel(self, request: base.CancelRequest) -> base.ExecutionReport:
        """See `Venue.cancel`; raises `OutcomeUnknown` if no such order is open."""
        return _report(await self._call(FaultOperation.CANCEL, request))

    async def order(
        self, symbol_id: str, client_order_id: str | None, exchange_order_id: str | None
    ) -> base.ExecutionReport | None:
        found = await self._call(FaultOperation.ORDER, (symbol_id, client_order_id, exchange_order_id))
        return None if found is None else _report(found)

    async def snapshot(self, since_ns: int, symbols: Sequence[str]) -> base.VenueSnapshot:
        began_ns = self.clock.now_ns()
        found = await self._call(FaultOperation.SNAPSHOT, since_ns)
        assert isinstance(found, base.VenueSnapshot), "the answer is a snapshot"
        return structs.replace(found, began_ns=began_ns, ended_ns=self.clock.now_ns())

    async def symbols(self) -> list[SymbolMetadata]:
        return await self._transport.symbols(timeout_s=self._timeout_s)

    async def assets(self) -> list[AssetMetadata]:
        return await self._transport.assets(timeout_s=self._timeout_s)

    async def time_ns(self) -> int:
        return await self._transport.time_ns(timeout_s=self._timeout_s)

    def reports(self) -> AsyncIterator[base.ExecutionReport]:
        """See `Venue.reports`. For one reader."""
        return self._transport.reports.stream()

    async def admin(self, op: str, **params: Any) -> Any:
        """Run an administrative operation on the exchange; see `kernel.venues.paper.admin`."""
        return await self._transport.admin(op, params, timeout_s=self._timeout_s)

    async def inject(self, fault: Fault) -> None:
        await self.admin("fault", fault=as_json(fault))

    async def truth(self) -> dict[str, Any]:
        """Return the exchange's own state, for auditors: orders, trades and balances without lag."""
        found: dict[str, Any] = await self.admin("truth")
        return found

    def _call(self, operation: FaultOperation, request: Request) -> Awaitable[Answer]:
        return self._transport.call(operation, request, timeout_s=self._timeout_s)


def _report(answer: Answer) -> base.ExecutionReport:
    assert isinstance(answer, base.ExecutionReport), "the answer to an order request is a report"
    return answer


def _script(faults: FaultSource | None) -> list[Fault]:
    """Return the scripted faults to send to an exchange process."""
    if faults is None:
        return []
    if not isinstance(faults, FaultPlan):
        raise ValueError("an exchange in another process takes scripted faults only: give a `FaultPlan`")
    return [*faults.pending]

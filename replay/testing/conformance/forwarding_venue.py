"""A venue that passes every call on to another one: the base of the kit's venues."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from kernel.order_spec import AssetMetadata, SymbolMetadata
from kernel.venues import base

Answer = TypeVar("Answer")


class ForwardingVenue(base.Venue):
    """A venue in front of another. Each call passes through `call`."""

    def __init__(self, inner: base.Venue) -> None:
        self.inner = inner

    async def call(self, name: str, make: Callable[[], Awaitable[Answer]]) -> Answer:
        return await make()

    @property
    def capabilities(self) -> base.VenueCapabilities:
        return self.inner.capabilities

    @property
    def rate_usage(self) -> tuple[base.RateUsage, ...]:
        return self.inner.rate_usage

    async def connect(self) -> None:
        await self.call("connect", self.inner.connect)

    async def close(self) -> None:
        await self.call("close", self.inner.close)

    async def submit(self, request: base.SubmitRequest) -> base.ExecutionReport:
        return await self.call("submit", lambda: self.inner.submit(request))

    async def submit_group(self, request: base.SubmitGroupRequest) -> list[base.ExecutionReport]:
        return await self.call("submit_group", lambda: self.inner.submit_group(request))

    async def modify(self, request: base.ModifyRequest) -> base.ExecutionReport:
        return await self.call("modify", lambda: self.inner.modify(request))

    async def cancel(self, request: base.CancelRequest) -> base.ExecutionReport:
        return await self.call("cancel", lambda: self.inner.cancel(request))

    async def order(
        self, symbol_id: str, client_order_id: str | None, exchange_order_id: str | None
    ) -> base.ExecutionReport | None:
        return await self.call("order", lambda: self.inner.order(symbol_id, client_order_id, exchange_order_id))

    async def snapshot(self, since_ns: int, symbols: Sequence[str]) -> base.VenueSnapshot:
        return await self.call("snapshot", lambda: self.inner.snapshot(since_ns, symbols))

    async def symbols(self) -> list[SymbolMetadata]:
        return await self.call("symbols", self.inner.symbols)

    async def assets(self) -> list[AssetMetadata]:
        return await self.call("assets", self.inner.assets)

    async def time_ns(self) -> int:
        return await self.call("time_ns", self.inner.time_ns)

    def recorded(self, report: base.ExecutionReport) -> None:
        self.inner.recorded(report)

    async def reports(self) -> AsyncIterator[base.ExecutionReport | None]:
        async for report in self.inner.reports():
            yield report

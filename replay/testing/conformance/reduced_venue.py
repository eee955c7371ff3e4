"""An adapter without some of its abilities, to see what the kernel can still guarantee: the kit's option `remove`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from msgspec import structs

from kernel.errors import OutcomeUnknown, Rejected
from kernel.models import ExecType
from kernel.venues import base
from replay.testing.conformance.forwarding_venue import ForwardingVenue

POLL_S = 0.05
NO_IDS: dict[str, Any] = {"client_order_id": None, "orig_client_order_id": None, "raw": None}
NO_LOOKUP = {"lookup": False, "lookup_closed": False}
REMOVED: dict[str, dict[str, Any]] = {
    "client_order_ids": {
        "client_order_ids": False,
        "orders_carry_client_id": False,
        "trades_carry_client_id": False,
        **NO_LOOKUP,
    },
    "lookup": NO_LOOKUP,
    "amend": {"amend": base.AmendDialect.NONE},
    "stream": {},
    **{
        name: {name: False}
        for name in (
            "lookup_closed", "orders_carry_client_id", "trades_carry_client_id", "lists_open_orders", "lists_trades",
            "lists_balances", "cancel_reports_cum_qty", "tells_time",
        )
    },
}  # fmt: skip
"""The capabilities that change with each ability that can be removed. Without `stream`, which is no capability, the adapter
polls for its reports."""


class ReducedVenue(ForwardingVenue):
    """A venue that declares and shows less than the one behind it."""

    def __init__(self, inner: base.Venue, removed: frozenset[str]) -> None:
        super().__init__(inner)
        self._removed = removed
        self._closed = asyncio.Event()

    @property
    def capabilities(self) -> base.VenueCapabilities:
        changes: dict[str, Any] = {}
        for name in self._removed:
            changes |= REMOVED[name]
        return structs.replace(self.inner.capabilities, **changes)

    async def connect(self) -> None:
        self._closed = asyncio.Event()
        await super().connect()

    async def close(self) -> None:
        self._closed.set()
        await super().close()

    async def submit(self, request: base.SubmitRequest) -> base.ExecutionReport:
        return self._reported(await super().submit(request))

    async def modify(self, request: base.ModifyRequest) -> base.ExecutionReport:
        if "amend" in self._removed:
            raise Rejected("this venue does not change orders")
        return self._reported(await super().modify(request))

    async def cancel(self, request: base.CancelRequest) -> base.ExecutionReport:
        return self._reported(await super().cancel(request))

    async def order(
        self, symbol_id: str, client_order_id: str | None, exchange_order_id: str | None
    ) -> base.ExecutionReport | None:
        if "client_order_ids" in self._removed:
            client_order_id = None
        if "lookup" in self._removed or client_order_id is exchange_order_id is None:
            raise OutcomeUnknown("this venue has no such query")
        found = await super().order(symbol_id, client_order_id, exchange_order_id)
        if found is None or (not found.leaves_qty and "lookup_closed" in self._removed):
            return None
        return self._reported(found)

    async def snapshot(self, since_ns: int, symbols: Sequence[str]) -> base.VenueSnapshot:
        found = await super().snapshot(since_ns, symbols)
        changes: dict[str, Any] = {
            "open_orders": self._listed(found.open_orders, offered="lists_open_orders", named="orders_carry_client_id"),
            "fills": self._listed(found.fills, offered="lists_trades", named="trades_carry_client_id"),
            "balances": None if "lists_balances" in self._removed else found.balances,
        }
        return structs.replace(found, **changes)

    async def time_ns(self) -> int:
        if "tells_time" in self._removed:
            raise OutcomeUnknown("this venue does not tell its time")
        return await super().time_ns()

    async def reports(self) -> AsyncIterator[base.ExecutionReport | None]:
        async for report in self._polled() if "stream" in self._removed else super().reports():
            yield self._reported(report) if report is not None else None

    def _listed(
        self, reports: Sequence[base.ExecutionReport], *, offered: str, named: str
    ) -> tuple[base.ExecutionReport, ...]:
        if offered in self._removed:
            return ()
        changed = NO_IDS if self._removed & {"client_order_ids", named} else {}
        return tuple(structs.replace(report, **changed) for report in reports)

    def _reported(self, report: base.ExecutionReport) -> base.ExecutionReport:
        changes: dict[str, Any] = {}
        if "client_order_ids" in self._removed:
            changes |= NO_IDS
        if "cancel_reports_cum_qty" in self._removed and report.exec_type is ExecType.CANCELED:
            changes |= {"cum_qty": None, "leaves_qty": None, "raw": None}
        return structs.replace(report, **changes)

    async def _polled(self) -> AsyncIterator[base.ExecutionReport]:
        """Yield the trades and the open orders that changed since the last poll."""
        closed, seen = self._closed, set[str]()
        symbols = sorted(symbol.symbol_id for symbol in await self.inner.symbols())
        since_ns = (await self.inner.snapshot(2**63 - 1, symbols)).began_ns
        while not closed.is_set():
            found = await self.inner.snapshot(since_ns, symbols)
            for report in (*found.fills, *found.open_orders):
                key = report.fill_key or str(structs.replace(report, raw=None, transact_time_ns=None))
                if key not in seen:
                    seen.add(key)
                    yield report
            await asyncio.sleep(POLL_S)

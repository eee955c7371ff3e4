"""The witness: reads log and exchange independently, and gives the auditor everything in order.

Called by the taps (before a request goes on), by the crew (what it was told) and on its own pulse. What a strategy was told
reaches the auditor only after every row that was committed before it: the rows are read first, then the word is passed on.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from kernel.errors import KernelError
from tests.drill.report import Report
from tests.drill.rows import ROWS_MAX, Rows, Unreadable
from tests.integration.world import truth_at
from tests.simulation.auditor import Auditor

HOLD_S = 3.0
"""Longest delay of a request while the log cannot be read; longer than its kernel's timeout."""
WIRE_SLACK_NS = 4_000_000_000
"""Longest delay between the write of a request and its observation, on a loaded machine."""
PULSE_S = 0.25
"""Longest interval between two reads of the log."""
NS_PER_S = 1_000_000_000


class Witness:
    """Observes the log, the wire and the exchange."""

    def __init__(self, rows: Rows, auditor: Auditor, report: Report, *, exchange_address: str) -> None:
        self.auditor = auditor
        self.leader_pid: int | None = None
        """The process that was elected last."""
        self._rows = rows
        self._report = report
        self._address = exchange_address
        self._position = 0
        self._reading = asyncio.Lock()
        self._told: list[Callable[[], None]] = []
        self._known_orders: dict[str, dict[str, Any]] = {}
        self._known_trades: dict[str, dict[str, Any]] = {}
        self._leaderless_since_ns: int | None = None

    # ----------------------------------------------------------------------------------------------------------- the log
    async def catch_up(self) -> None:
        """Read every row that is committed now, then pass on what was told before. Raises `Unreadable`."""
        async with self._reading:
            told = len(self._told)
            while True:
                rows = await asyncio.to_thread(self._rows.after, self._position)
                for row in rows:
                    self._take(row)
                if len(rows) < ROWS_MAX:
                    break
            for pass_on in self._told[:told]:
                pass_on()
            del self._told[:told]

    def _take(self, row: dict[str, Any]) -> None:
        self._position = row["position"]
        self._report.rows += 1
        self.auditor.now_ns = row["recorded_at_ns"]
        self.auditor.logged(**row)
        if row["topic"] == "LeaderElected":
            self._elected(json.loads(row["state"]), row["recorded_at_ns"])
        elif row["topic"] == "OrderFilled":
            self._report.fills += 1

    def _elected(self, event: dict[str, Any], at_ns: int) -> None:
        self._report.epochs += 1
        self.leader_pid = int(event["holder"].split(":")[1])
        self._report.did(f"epoch {event['epoch']} is led by process {self.leader_pid}")
        if self._leaderless_since_ns is not None and at_ns >= self._leaderless_since_ns:
            self.led_again(at_ns)

    def leaderless(self) -> None:
        """Nobody leads from now on: the leader was killed or frozen, or its database is gone."""
        if self._leaderless_since_ns is None:
            self._leaderless_since_ns = time.time_ns()

    def led_again(self, at_ns: int | None = None) -> None:
        """Somebody leads again."""
        if self._leaderless_since_ns is not None:
            gap_s = ((at_ns or time.time_ns()) - self._leaderless_since_ns) / NS_PER_S
            self._report.leaderless_s_max = max(self._report.leaderless_s_max, gap_s)
            self._leaderless_since_ns = None

    def tell(self, pass_on: Callable[[], None]) -> None:
        """Have the auditor told something, after every row that is committed now."""
        self._told.append(pass_on)

    # ---------------------------------------------------------------------------------------------------------- the wire
    async def saw(self, op: str, params: dict[str, Any], *, arrived_ns: int) -> bool:
        """See `Watcher.saw`."""
        self._report.attempts += 1
        if not await self._caught_up_within(HOLD_S):
            self._report.held_back += 1
            return False
        order = params.get("order") or {}
        self.auditor.sent(
            at_ns=arrived_ns - WIRE_SLACK_NS,
            op=op,
            client_order_id=params["client_order_id"],
            symbol_id=params.get("symbol_id") or order["symbol_id"],
            stamp_ns=params["stamp_ns"],
            valid_until_ns=params.get("valid_until_ns"),
            target_client_order_id=params.get("target_client_order_id"),
            target_exchange_order_id=params.get("target_exchange_order_id"),
            side=order.get("side"),
            quantity=order.get("quantity"),
            price=order.get("price"),
        )
        return True

    async def _caught_up_within(self, seconds: float) -> bool:
        deadline_s = time.monotonic() + seconds
        while True:
            try:
                await self.catch_up()
            except Unreadable:
                if time.monotonic() > deadline_s:
                    return False
                await asyncio.sleep(0.1)
            else:
                return True

    # ----------------------------------------------------------------------------------------------------- the exchange
    async def truth(self) -> dict[str, Any]:
        """What is so at the exchange. Raises `KernelError` when it is not there."""
        return await truth_at(self._address)

    async def look(self) -> None:
        """Pass on what changed at the exchange; nothing when it is not there."""
        try:
            truth = await self.truth()
        except KernelError:
            return
        for trade in truth["trades"]:
            if self._known_trades.get(trade["fill_key"]) != trade:
                self._known_trades[trade["fill_key"]] = trade
                self.auditor.venue_trade(trade)
        for order in truth["orders"]:
            if self._known_orders.get(order["exchange_order_id"]) != order:
                self._known_orders[order["exchange_order_id"]] = order
                self.auditor.venue_order(order)

    # --------------------------------------------------------------------------------------------------------- the pulse
    async def watch(self) -> None:
        """Read the log and ask the exchange again and again, until cancelled."""
        looked_s = 0.0
        pause_s = 1.0
        while True:
            await asyncio.sleep(PULSE_S)
            try:
                await self.catch_up()
            except Unreadable:
                continue
            began_s = time.monotonic()
            if began_s - looked_s >= pause_s:
                await self.look()
                looked_s = time.monotonic()
                pause_s = max(1.0, 10 * (looked_s - began_s))

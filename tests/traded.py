"""Logs with trades in them, for tests of what is read back: orders of several owners, filled, corrected and busted.

Used by the tests of the statement and of the tables. Events are appended as the kernel would append them, with the instants
that a test gives.
"""

from __future__ import annotations

from typing import Any

from kernel import events
from kernel.log import Append, EventLog, Write
from kernel.models import AttemptKind, Evidence, ExecType, Liquidity
from kernel.order_spec import OrderType, Side, StandardOrder
from kernel.venues.paper.matching.config import built_in_assets, built_in_symbols
from replay.log_access.log_reader import instant_ns
from tests.commands import fresh_command_id
from tests.folding import an_attempt, an_intent

DAY_1 = instant_ns("2026-01-31T12:00:00Z")
DAY_2 = instant_ns("2026-02-01T00:00:00Z")


class Book:
    """Writes trades to a log."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._symbols: dict[str, tuple[str, Side]] = {}

    async def record(self, stream_id: str, *recorded: events.BaseEvent) -> None:
        """Append events to a stream."""
        write = Write(stream_id, recorded)
        await self._log.append(Append(fresh_command_id(), (write,), "venue:paper", Evidence.STREAM, is_fact=True))

    async def open(self) -> None:
        """Let the log know the markets of the paper exchange."""
        assets = (events.AssetObserved(asset=asset) for asset in built_in_assets())
        symbols = (events.SymbolObserved(symbol=symbol) for symbol in built_in_symbols())
        await self.record(events.REFERENCE_STREAM, *assets, *symbols)

    async def order(
        self, intent_id: str, side: Side, quantity: int, price: int, *, owner: str = "", symbol_id: str = "BTCUSDT"
    ) -> None:
        """Want an order, and send it."""
        order = StandardOrder(
            symbol_id=symbol_id, side=side, order_type=OrderType.LIMIT, quantity=quantity, price=price
        )
        intent = an_intent(order, intent_id, owner=owner, created_at_ns=DAY_1, updated_at_ns=DAY_1)
        attempt = an_attempt(AttemptKind.SUBMIT, f"c-{intent_id}", order, intent_id=intent_id)
        self._symbols[intent_id] = (symbol_id, side)
        await self.record(events.intent_stream(intent_id), events.IntentCreated(intent=intent), attempt)

    def _report(self, intent_id: str, key: str, exec_type: ExecType, at: int | None) -> dict[str, Any]:
        return {
            "intent_id": intent_id,
            "symbol_id": self._symbols[intent_id][0],
            "client_order_id": f"c-{intent_id}",
            "exchange_order_id": f"o-{intent_id}",
            "exec_type": exec_type,
            "fill_key": key,
            "transact_time_ns": at,
        }

    async def fill(
        self, intent_id: str, key: str, quantity: int, price: int, *, at: int | None = DAY_1, fee: int | None = None
    ) -> None:
        """Trade a part of an order; the fee is in USDT."""
        await self.record(
            events.intent_stream(intent_id),
            events.OrderFilled(
                **self._report(intent_id, key, ExecType.TRADE, at),
                side=self._symbols[intent_id][1],
                last_qty=quantity,
                last_px=price,
                fee=fee,
                fee_asset=None if fee is None else "USDT",
                liquidity=Liquidity.TAKER,
            ),
        )

    async def correct(
        self, intent_id: str, key: str, ref: str, quantity: int, price: int, *, at: int = DAY_2, fee: int | None = None
    ) -> None:
        """Replace a trade by another."""
        await self.record(
            events.intent_stream(intent_id),
            events.FillCorrected(
                **self._report(intent_id, key, ExecType.TRADE_CORRECT, at),
                side=self._symbols[intent_id][1],
                ref_fill_key=ref,
                last_qty=quantity,
                last_px=price,
                fee=fee,
                fee_asset=None if fee is None else "USDT",
            ),
        )

    async def bust(self, intent_id: str, key: str, ref: str, *, at: int = DAY_2) -> None:
        """Void a trade."""
        report = self._report(intent_id, key, ExecType.TRADE_CANCEL, at)
        await self.record(events.intent_stream(intent_id), events.FillBusted(**report, ref_fill_key=ref))

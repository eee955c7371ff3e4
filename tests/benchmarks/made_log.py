"""A log of any length, generated fast: the events of a desk's orders, without a kernel.

Used by the benchmarks of everything that reads history, and by tests that need a long log. The same seed gives the same
events, except for the log's id and hashes. A number of orders are live at a time, their events interleaved: created, sent,
accepted, filled in parts and then canceled if something is left; now and then a bust, a finding, a snapshot. Everything
goes through the recorder like the writer's commits, so hashes, streams and positions are as in any log, and `verify` finds
no problem.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Generator, Iterator

from msgspec.structs import replace

from kernel import events
from kernel.lifecycle.record import client_order_id
from kernel.log import Append, Write
from kernel.log.engine.recorded_log import RecordedLog
from kernel.log.engine.records import prepare
from kernel.models import (
    AttemptKind,
    Balance,
    Desired,
    Evidence,
    ExecType,
    Finding,
    FindingKind,
    LookScope,
    OrderIntent,
)
from kernel.order_spec import AssetMetadata, OrderType, Side, StandardOrder, SymbolMetadata

BATCH = 512
BEGAN_NS = 1_700_000_000_000_000_000
STEP_NS = 1_000_000
LOOK_EVERY = 5_000
STRATEGY, RECONCILER, VENUE = "strategy:made", "reconciler", "venue:made"
SYMBOLS = tuple(
    SymbolMetadata(
        symbol_id=f"{base}USDT",
        base_asset=base,
        quote_asset="USDT",
        price_decimals=2,
        quantity_decimals=8,
        lot_size=1_000,
    )
    for base in ("BTC", "ETH", "SOL")
)
ASSETS = tuple(AssetMetadata(asset_id=name, decimals=8) for name in ("BTC", "ETH", "SOL", "USDT"))

Step = tuple[str, events.BaseEvent, int | None]
"""Actor, event, and position of the cause."""


async def make_log(log: RecordedLog, *, count: int, live: int = 300, seed: int = 1) -> int:
    """Record at least `count` events, with at most `live` open orders at a time; returns the number of events."""
    return await asyncio.to_thread(fill, log, count, live, random.Random(seed))


def fill(log: RecordedLog, count: int, live: int, draw: random.Random) -> int:
    """`make_log` in the caller's thread."""
    position = log.recorder.head().position
    made = Maker(log, draw, position)
    elected = made.append(events.CONTROL_STREAM, RECONCILER, events.LeaderElected(epoch=1, holder="made"))
    appends = [replace(elected, epoch=1, elects=True)]
    appends += [made.append(events.REFERENCE_STREAM, VENUE, event) for event in reference()]
    lives: list[Iterator[Step]] = []
    names: list[str] = []
    while position < count or appends:
        while position + len(appends) < count and len(appends) < BATCH:
            if len(lives) < live:
                made.orders += 1
                names.append(f"o{made.orders:07d}")
                lives.append(made.life(names[-1], made.orders))
            index = draw.randrange(len(lives))
            step = next(lives[index], None)
            if step is None:
                lives[index], names[index] = lives[-1], names[-1]
                lives.pop()
                names.pop()
                continue
            appends.append(made.append(events.intent_stream(names[index]), *step))
            if made.steps % LOOK_EVERY == 0:
                appends.extend(made.append(events.VENUE_STREAM, VENUE, event) for event in made.snapshot())
        head = log.recorder.commit([prepare(item, log.recorder.writer) for item in appends], made.now_ns).head
        position = head.position
        appends = []
    return position


def reference() -> Iterator[events.BaseEvent]:
    """Assets and symbols, as a venue reports them."""
    yield from (events.AssetObserved(asset=asset) for asset in ASSETS)
    yield from (events.SymbolObserved(symbol=symbol) for symbol in SYMBOLS)


class Maker:
    """Draws events; counts ids and time."""

    def __init__(self, log: RecordedLog, draw: random.Random, position: int) -> None:
        self.draw = draw
        self.orders = 0
        self.steps = 0
        self._exchange_id = log.exchange_id
        self._log_id = log.log_id
        self._before = position
        self._fills = 0

    @property
    def now_ns(self) -> int:
        """The instant of the newest step."""
        return BEGAN_NS + self.steps * STEP_NS

    @property
    def next_position(self) -> int:
        """The position of the next step."""
        return self._before + self.steps + 1

    def append(self, stream_id: str, actor: str, event: events.BaseEvent, cause: int | None = None) -> Append:
        """One event as a command of its own."""
        self.steps += 1
        evidence = Evidence.STREAM if actor == VENUE else Evidence.COMMAND
        return Append(
            self.steps.to_bytes(16, "big"), (Write(stream_id, (event,)),), actor, evidence,
            correlation_id=f"{self.steps:032x}", causation_position=cause,
        )  # fmt: skip

    def snapshot(self) -> Iterator[events.BaseEvent]:
        """The account and the open orders, as the venue reports them."""
        began_ns, ended_ns = self.now_ns, self.now_ns + 1
        balances = {
            asset.asset_id: Balance(asset_id=asset.asset_id, total=10**17, locked=self.steps, free=10**17 - self.steps)
            for asset in ASSETS
        }
        yield events.BalancesObserved(balances=balances, began_ns=began_ns, ended_ns=ended_ns)
        yield events.VenueSnapshotTaken(
            scopes=(LookScope.OPEN_ORDERS, LookScope.TRADES, LookScope.BALANCES), complete=True, began_ns=began_ns,
            ended_ns=ended_ns, trades_since_ns=0, trades_cursor_ns=began_ns, open_orders=1,
        )  # fmt: skip

    def life(self, name: str, number: int) -> Iterator[Step]:
        """One order from its creation to its end."""
        symbol = self.draw.choice(SYMBOLS)
        order = StandardOrder(
            symbol_id=symbol.symbol_id, side=self.draw.choice((Side.BUY, Side.SELL)), order_type=OrderType.LIMIT,
            quantity=self.draw.randrange(1, 500) * 1_000, price=self.draw.randrange(1_000, 7_000_000),
        )  # fmt: skip
        client_id, venue_id = client_order_id(self._log_id, name, 1), str(10**9 + number)
        given = {"intent_id": name, "symbol_id": order.symbol_id, "client_order_id": client_id}
        given |= {"exchange_order_id": venue_id}
        accepted = {"exec_type": ExecType.NEW, "order_qty": order.quantity, "price": order.price, "cum_qty": 0}
        raw = f'{{"orderId":{venue_id}}}'
        wanted_at = self.next_position
        yield STRATEGY, events.IntentCreated(intent=self._intent(name, order)), None
        sent_at = self.next_position
        yield RECONCILER, self._attempt(name, order, AttemptKind.SUBMIT, 1), wanted_at
        yield VENUE, events.OrderAccepted(**given, **accepted, transact_time_ns=self.now_ns, raw=raw), sent_at
        cum_qty = yield from self._trades(order, given, sent_at)
        if cum_qty == order.quantity:
            return
        wanted_at = self.next_position
        yield STRATEGY, events.IntentCancelRequested(intent_id=name, generation=2, requested_at_ns=self.now_ns), None
        sent_at = self.next_position
        yield RECONCILER, self._attempt(name, order, AttemptKind.CANCEL, 2, target=(client_id, venue_id)), wanted_at
        ended = {"exec_type": ExecType.CANCELED, "cum_qty": cum_qty, "transact_time_ns": self.now_ns}
        yield VENUE, events.OrderCanceled(**given, **ended), sent_at

    def _trades(self, order: StandardOrder, given: dict[str, str], sent_at: int) -> Generator[Step, None, int]:
        """Some trades, and their total quantity."""
        left = order.quantity
        for _ in range(self.draw.randrange(5)):
            quantity = min(left, self.draw.randrange(1, order.quantity // 1_000 + 1) * 1_000)
            left, self._fills = left - quantity, self._fills + 1
            key = f"made/{given['exchange_order_id']}/{self._fills}"
            fill = events.OrderFilled(
                **given, exec_type=ExecType.TRADE, side=order.side, fill_key=key, last_qty=quantity, last_px=order.price,
                cum_qty=order.quantity - left, fee=quantity // 1_000, fee_asset="USDT", exec_id=str(self._fills),
                transact_time_ns=self.now_ns, raw=f'{{"tradeId":{self._fills}}}',
            )  # fmt: skip
            yield VENUE, fill, sent_at
            if self.draw.random() < 0.005:
                yield from self._bust(order, given, key, sent_at)
                return order.quantity - left - quantity
            if not left:
                break
        return order.quantity - left

    def _bust(self, order: StandardOrder, given: dict[str, str], key: str, sent_at: int) -> Iterator[Step]:
        busted = events.FillBusted(
            **given, exec_type=ExecType.TRADE_CANCEL, fill_key=f"{key}/bust", ref_fill_key=key,
            transact_time_ns=self.now_ns,
        )  # fmt: skip
        yield VENUE, busted, sent_at
        name = f"{FindingKind.UNEXPLAINED_QUANTITY}:{given['intent_id']}"
        finding = Finding(
            finding_id=name, kind=FindingKind.UNEXPLAINED_QUANTITY, text="a trade was busted", intent_id=given["intent_id"],
            symbol_id=order.symbol_id, raised_at_ns=self.now_ns,
        )  # fmt: skip
        yield RECONCILER, events.FindingRaised(finding=finding), None
        yield RECONCILER, events.FindingResolved(finding_id=name, text="looked at"), None

    def _intent(self, name: str, order: StandardOrder) -> OrderIntent:
        owner = f"mm-{self.draw.randrange(8)}"
        return OrderIntent(
            intent_id=name, exchange_id=self._exchange_id, order=order, owner=owner, desired=Desired.WORKING,
            created_at_ns=self.now_ns, updated_at_ns=self.now_ns,
        )  # fmt: skip

    def _attempt(
        self,
        name: str,
        order: StandardOrder,
        kind: AttemptKind,
        number: int,
        *,
        target: tuple[str, str] | None = None,
    ) -> events.AttemptStarted:
        now_ns = self.now_ns
        return events.AttemptStarted(
            intent_id=name, number=number, kind=kind, client_order_id=client_order_id(self._log_id, name, number),
            order=order, generation=number, epoch=1,
            target_client_order_id=target[0] if target else None, target_exchange_order_id=target[1] if target else None,
            stamp_ns=now_ns, send_by_ns=now_ns + 10**9, valid_until_ns=now_ns + 5 * 10**9,
            absent_after_ns=now_ns + 7 * 10**9, state_position=self.steps, decided_at_ns=now_ns,
        )  # fmt: skip

"""One event of every kind with every field set: what the tests of storage write, read and keep.

Used by `tests/unit/test_events.py` and `tests/golden`. A new field belongs here too: a test fails while it is missing.
"""

from __future__ import annotations

from typing import Any

from kernel import events
from kernel.models import (
    AcceptedTerms,
    Attempt,
    AttemptKind,
    AttemptOutcome,
    Balance,
    Desired,
    ExecType,
    Finding,
    FindingKind,
    Liquidity,
    LookScope,
    OrderIntent,
    OrderState,
    OrderStatus,
    OrdStatus,
    ReconciliationStatus,
    UnsolicitedCancelPolicy,
    VenueOrder,
)
from kernel.order_spec import (
    AssetMetadata,
    OcoMode,
    OrderType,
    Side,
    StandardOrder,
    SymbolMetadata,
    SymbolStatus,
    TimeInForce,
)

AT = 1_700_000_000_000_000_000

ORDER = StandardOrder(
    symbol_id="BTCUSDT",
    side=Side.SELL,
    order_type=OrderType.STOP_LIMIT,
    quantity=150_000,
    price=6_170_000,
    stop_price=6_180_000,
    time_in_force=TimeInForce.GTD,
    expire_at_ns=AT + 1,
    reduce_only=True,
    display_quantity=50_000,
)
INTENT = OrderIntent(
    intent_id="btc-bid.1",
    exchange_id="paper",
    order=ORDER,
    group_id="bracket_1",
    generation=3,
    desired=Desired.CANCELED,
    on_unsolicited_cancel=UnsolicitedCancelPolicy.RECREATE,
    owner="mm-1",
    metadata={"ladder": "a", "levels": [1, 2], "größe": "Ω"},
    created_at_ns=AT,
    updated_at_ns=AT + 2,
)
ATTEMPT = Attempt(
    number=2,
    kind=AttemptKind.CANCEL,
    position=12,
    outcome=AttemptOutcome.UNKNOWN,
    client_order_id="c2",
    target_client_order_id="c1",
    target_exchange_order_id="o1",
    generation=3,
    epoch=4,
    stamp_ns=AT,
    send_by_ns=AT + 1,
    valid_until_ns=AT + 2,
    absent_after_ns=AT + 3,
    text="timeout",
    code="-1007",
    duplicate=True,
    list_look_ended_ns=AT + 4,
)
VENUE_ORDER = VenueOrder(
    exchange_order_id="o1",
    client_order_id="c1",
    quantity=150_000,
    price=6_170_000,
    live=False,
    ord_status=OrdStatus.CANCELED,
    cum_qty=40_000,
    inferred_qty=10_000,
    cum_notional=2**70,
    final_cum_qty=40_000,
    first_seen_ns=AT,
    last_seen_ns=AT + 5,
    closed_ns=AT + 5,
    generation=3,
    solicited=True,
    late=True,
    carried_qty=5,
    other_terms=True,
    cancel_not_before_ns=AT + 6,
    in_doubt=True,
)
STATE = OrderState(
    intent_id="btc-bid.1",
    exchange_order_id="o1",
    client_order_id="c1",
    status=OrderStatus(
        order=ORDER,
        ord_status=OrdStatus.PARTIALLY_FILLED,
        cum_qty=40_000,
        leaves_qty=110_000,
        cum_notional=2**70,
        avg_px=6_169_000,
    ),
    reconciliation_status=ReconciliationStatus.BACKING_OFF,
    observed_generation=3,
    attempts=(ATTEMPT,),
    venue_orders=(VENUE_ORDER,),
    failures=2,
    failed_generation=1,
    not_before_ns=AT + 6,
    last_sync_at=1_700_000_000.5,
    accepted_terms=AcceptedTerms(generation=3, quantity=149_000, price=6_169_995),
)
FINDING = Finding(
    finding_id="OVERFILL:btc-bid.1",
    kind=FindingKind.OVERFILL,
    text="filled more than there is",
    intent_id="btc-bid.1",
    symbol_id="BTCUSDT",
    raised_at_ns=AT,
    resolved_at_ns=AT + 1,
    resolution="busted",
)
SYMBOL = SymbolMetadata(
    symbol_id="BTCUSDT",
    base_asset="BTC",
    quote_asset="USDT",
    price_decimals=2,
    quantity_decimals=8,
    tick_size=1,
    lot_size=1_000,
    min_price=1,
    max_price=100_000_000,
    min_quantity=1_000,
    max_quantity=900_000_000_000,
    min_notional=5 * 10**10,
    max_notional=9 * 10**20,
    order_types=frozenset(OrderType),
    times_in_force=frozenset(TimeInForce),
    max_open_orders=200,
    post_only=False,
    reduce_only=True,
    iceberg=True,
    status=SymbolStatus.HALTED,
)


def report_fields(exec_type: ExecType) -> dict[str, Any]:
    """The fields that every report has."""
    return {
        "intent_id": "btc-bid.1",
        "symbol_id": "BTCUSDT",
        "client_order_id": "c2",
        "orig_client_order_id": "c1",
        "exchange_order_id": "o1",
        "parent_exchange_order_id": "o0",
        "order_type": OrderType.LIMIT,
        "order_created_ns": AT - 5,
        "life_margin_ns": 7,
        "exec_type": exec_type,
        "exec_id": "e7",
        "ord_status": OrdStatus.NEW,
        "order_qty": 150_000,
        "price": 6_170_000,
        "cum_qty": 40_000,
        "leaves_qty": 110_000,
        "transact_time_ns": AT,
        "attempt_position": 12,
        "text": "as asked",
        "raw": '{"e":"executionReport"}',
        "unconfirmed": True,
    }


FILL: dict[str, Any] = {
    "side": Side.SELL,
    "fill_key": "BTCUSDT/1/2",
    "last_qty": 40_000,
    "last_px": 2**64 - 1,
    "fee": -25,
    "fee_asset": "BNB",
}
REPORTS: tuple[events.BaseEvent, ...] = (
    events.OrderAccepted(**report_fields(ExecType.NEW)),
    events.OrderRejected(**report_fields(ExecType.REJECTED)),
    events.OrderTriggered(**report_fields(ExecType.TRIGGERED)),
    events.OrderFilled(**report_fields(ExecType.TRADE), **FILL, fees={"BNB": 7, "USDT": 3}, liquidity=Liquidity.MAKER),
    events.FillInferred(**report_fields(ExecType.ORDER_STATUS), inferred_qty=10_000),
    events.FillCorrected(**report_fields(ExecType.TRADE_CORRECT), **FILL, fees={"BNB": 7}, ref_fill_key="BTCUSDT/1/1"),
    events.FillBusted(**report_fields(ExecType.TRADE_CANCEL), fill_key="b1", ref_fill_key="BTCUSDT/1/1"),
    events.OrderModified(**report_fields(ExecType.RESTATED), corporate_action=True),
    events.ModifyRejected(**report_fields(ExecType.REPLACE_REJECTED)),
    events.OrderCanceled(**report_fields(ExecType.CANCELED)),
    events.CancelRejected(**report_fields(ExecType.CANCEL_REJECTED)),
    events.OrderExpired(**report_fields(ExecType.EXPIRED)),
    events.OrderStateObserved(
        **report_fields(ExecType.ORDER_STATUS), gone=True, began_ns=AT, reflects_ns=AT, in_doubt=True
    ),
)
INTENTS: tuple[events.BaseEvent, ...] = (
    events.IntentCreated(intent=INTENT),
    events.IntentModified(intent=INTENT),
    events.IntentCancelRequested(intent_id="btc-bid.1", generation=4, requested_at_ns=AT, reason="mm-1 fell silent"),
    events.IntentDeleted(intent_id="btc-bid.1"),
    events.TermsAccepted(
        intent_id="btc-bid.1", generation=3, quantity=149_000, price=6_169_995, asked=150_000, text="its tick is 0.05"
    ),
    events.GroupCreated(group_id="bracket_1", mode=OcoMode.ONE_CANCELS_OTHER, intent_ids=("btc-bid.1", "btc-ask.1")),
    events.GroupWorked(group_id="bracket_1", native=True, group_client_id="k2j4"),
    events.GroupUpdated(group_id="bracket_1", intent_id="btc-bid.1", cum_qty=1_000_000),
)
ATTEMPTS: tuple[events.BaseEvent, ...] = (
    events.AttemptStarted(
        intent_id="btc-bid.1",
        number=2,
        kind=AttemptKind.AMEND,
        client_order_id="c2",
        target_client_order_id="c1",
        target_exchange_order_id="o1",
        order=ORDER,
        new_order=True,
        keeps_cum_qty=True,
        generation=3,
        epoch=4,
        stamp_ns=AT,
        send_by_ns=AT + 1,
        valid_until_ns=AT + 2,
        absent_after_ns=AT + 3,
        state_position=11,
        decided_at_ns=AT,
    ),
    events.AttemptFailed(
        intent_id="btc-bid.1",
        attempt_position=12,
        outcome=AttemptOutcome.REJECTED,
        text="rate limit",
        code="-1003",
        retry_at_ns=AT + 9,
        failures=1,
        locally_rejected=True,
    ),
    events.AttemptUnknown(intent_id="btc-bid.1", attempt_position=12, text="timeout", code="-1007", duplicate=True),
    events.AttemptResolved(
        intent_id="btc-bid.1", attempt_position=12, outcome=AttemptOutcome.DEAD, text="absent", began_ns=AT
    ),
)
RECORDS: tuple[events.BaseEvent, ...] = (
    events.OrderStateRecorded(state=STATE, created=True),
    events.OrderStateForgotten(intent_id="btc-bid.1"),
)
OBSERVATIONS: tuple[events.BaseEvent, ...] = (
    events.VenueSnapshotTaken(
        scopes=(LookScope.OPEN_ORDERS, LookScope.TRADES),
        complete=False,
        began_ns=AT,
        ended_ns=AT + 1,
        intent_id="btc-bid.1",
        client_order_id="c1",
        exchange_order_id="o1",
        found=False,
        reflects_ns=AT,
        trades_since_ns=AT - 1,
        trades_cursor_ns=AT,
        trades_symbols=("BTCUSDT",),
        open_orders=3,
        text="page 2 failed",
    ),
    events.BalancesObserved(
        balances={"BTC": Balance(asset_id="BTC", total=-3, locked=1, free=2)}, began_ns=AT, ended_ns=AT + 1
    ),
    events.PositionObserved(symbol_id="BTCUSDT", quantity=-40_000, observed_at_ns=AT),
    events.TransferObserved(
        transfer_key="w-1", text="withdrawal", asset_id="BTC", amount=-(2**70), transact_time_ns=AT
    ),
    events.ExternalOrderObserved(
        symbol_id="BTCUSDT",
        client_order_id="web_1",
        exchange_order_id="o9",
        exec_type=ExecType.TRADE,
        exec_id="e9",
        side=Side.BUY,
        fill_key="BTCUSDT/9/9",
        last_qty=1,
        last_px=2,
        order_qty=3,
        price=4,
        transact_time_ns=AT,
        raw="{}",
        ord_status=OrdStatus.PARTIALLY_FILLED,
        cum_qty=1,
        fee=-5,
        fee_asset="BNB",
        ref_fill_key="BTCUSDT/9/8",
        gone=True,
        fees={"BNB": -5},
        order_created_ns=AT,
        id_reused=True,
    ),
    events.SymbolObserved(symbol=SYMBOL),
    events.AssetObserved(asset=AssetMetadata(asset_id="BTC", decimals=8, name="Bitcoin")),
)
CONTROL: tuple[events.BaseEvent, ...] = (
    events.LogCreated(log_id="0123456789abcdef", exchange_id="paper"),
    events.LeaderElected(epoch=4, holder="host/1/ab"),
    events.KernelStarted(
        kernel_version="0.1.0",
        code_hash="0" * 64,
        epoch=4,
        settings={"ack_timeout_s": 5.0, "venue": None},
        capabilities={"amend": "NONE"},
    ),
    events.CapabilitiesChanged(capabilities={"amend": "IN_PLACE"}),
    events.KernelStopped(epoch=4, reason="asked to"),
    events.Paused(intent_id="btc-bid.1", reason="audit", symbol_id="BTCUSDT", cancels=True),
    events.Resumed(intent_id="btc-bid.1", symbol_id="BTCUSDT"),
    events.FindingRaised(finding=FINDING),
    events.FindingResolved(finding_id="OVERFILL:btc-bid.1", text="busted"),
    events.HeartbeatReceived(owner="mm-1", ttl_ns=10_000_000_000),
    events.HeartbeatLapsed(owner="mm-1", beat_position=12, silent_ns=10_000_000_001),
    events.HeartbeatDisarmed(owner="mm-1", reason="ended in order"),
)
SAMPLES: dict[str, events.BaseEvent] = {
    event.topic: event for event in (*INTENTS, *ATTEMPTS, *REPORTS, *RECORDS, *OBSERVATIONS, *CONTROL)
}
"""Topic → its sample."""

"""Stored events as objects and sentences, for people and programs.

Called by `replay.views` and `replay.histories`. Works on the stored topic and payload, so that an event that this version
cannot decode is shown too. Numbers are the stored integers unless scales are given.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from kernel import events
from kernel.clock import NS_PER_S
from kernel.log.base import StoredRow
from kernel.log.engine.records import COLUMNS
from replay.formatting.decimals import Scales

Payload = Mapping[str, Any]


def stored_object(row: StoredRow) -> dict[str, Any]:
    """Return everything in a row: the envelope, the payload under `state`, hashes in hex."""
    return {
        **dict(zip(COLUMNS[:6], row, strict=False)),
        **json.loads(row.meta),
        "command_id": row.command_id.hex(),
        "command_index": row.command_index,
        "leaf_hash": row.leaf_hash.hex(),
        "chain_hash": row.chain_hash.hex(),
        "state": json.loads(row.state),
    }


def sentence(topic: str, payload: Payload, scales: Scales | None = None) -> str:
    """Describe an event in a few words; an unknown topic by its payload."""
    words = SENTENCES.get(topic)
    if words is None:
        return json.dumps(payload, separators=(",", ":"), ensure_ascii=False)
    text = words(payload, scales)
    reason_given = payload.get("text") or payload.get("reason")
    return f"{text}: {reason_given}" if reason_given and text else str(reason_given or text)


def event_sentence(event: events.BaseEvent, scales: Scales | None = None, *, symbol_id: str | None = None) -> str:
    """Describe a decoded event; `symbol_id` is its symbol if the event does not name one."""
    about_symbol = {} if symbol_id is None else {"symbol_id": symbol_id}
    return sentence(event.topic, about_symbol | msgspec.to_builtins(event), scales)


def about(stream_id: str, payload: Payload) -> str:
    """Return what an event is about: its stream, or its symbol."""
    if stream_id.startswith(events.INTENT_STREAM_PREFIX):
        return "intent/" + stream_id.removeprefix(events.INTENT_STREAM_PREFIX)
    if stream_id.startswith(events.GROUP_STREAM_PREFIX):
        return "group/" + stream_id.removeprefix(events.GROUP_STREAM_PREFIX)
    symbol = payload.get("symbol")
    if isinstance(symbol, dict):
        return f"symbol/{symbol.get('symbol_id')}"
    return stream_id


def order_terms(order: Payload, scales: Scales | None) -> str:
    """Describe an order, as in `BUY 0.001 BTCUSDT at 61700.00`."""
    symbol_id = order["symbol_id"]
    text = f"{order['side']} {quantity(symbol_id, order['quantity'], scales)} {symbol_id}"
    if "stop_price" in order:
        text += f" stop {price(symbol_id, order['stop_price'], scales)}"
    if "price" in order:
        return f"{text} at {price(symbol_id, order['price'], scales)}"
    return f"{text} {order['order_type']}"


def price(symbol_id: str, value: int, scales: Scales | None) -> str:
    return str(value) if scales is None else scales.price(symbol_id, value)


def quantity(symbol_id: str, value: int, scales: Scales | None) -> str:
    return str(value) if scales is None else scales.quantity(symbol_id, value)


def _intent(payload: Payload, scales: Scales | None) -> str:
    intent = payload["intent"]
    desired = "" if intent.get("desired", "WORKING") == "WORKING" else f", {intent['desired']}"
    return f"{order_terms(intent['order'], scales)}{desired}"


def _attempt(payload: Payload, scales: Scales | None) -> str:
    target = payload.get("target_exchange_order_id") or payload.get("target_client_order_id")
    what = f"of {target}" if target else order_terms(payload["order"], scales)
    return f"{payload['kind']} number {payload['number']} as {payload['client_order_id']}, {what}"


def _answer(payload: Payload, scales: Scales | None) -> str:
    outcome = f"{payload['outcome']}, " if "outcome" in payload else ""
    return f"{outcome}attempt at position {payload['attempt_position']}"


def _report(payload: Payload, scales: Scales | None) -> str:
    order, status = payload.get("exchange_order_id"), payload.get("ord_status")
    parts = [f"venue order {order}" if order else "", status or "", "no longer listed" if payload.get("gone") else ""]
    if payload.get("cum_qty"):
        parts.append(f"filled {quantity(payload['symbol_id'], payload['cum_qty'], scales)}")
    return ", ".join(filter(None, parts))


def _fill(payload: Payload, scales: Scales | None) -> str:
    symbol_id = payload["symbol_id"]
    traded = quantity(symbol_id, payload["last_qty"], scales)
    at = price(symbol_id, payload["last_px"], scales)
    return f"{payload['side']} {traded} {symbol_id} at {at}, trade {payload['fill_key']}"


def _inferred(payload: Payload, scales: Scales | None) -> str:
    return f"{quantity(payload['symbol_id'], payload['inferred_qty'], scales)} filled without a known trade"


def _snapshot(payload: Payload, scales: Scales | None) -> str:
    if payload.get("client_order_id") or payload.get("exchange_order_id"):
        found = {True: "found", False: "not found", None: "no answer"}[payload.get("found")]
        return f"queried {payload.get('client_order_id') or payload.get('exchange_order_id')}: {found}"
    completeness = "complete" if payload["complete"] else "incomplete"
    orders = payload.get("open_orders")
    return f"{completeness}, {', '.join(payload['scopes'])}" + (f", {orders} open" if orders is not None else "")


def _finding(payload: Payload, scales: Scales | None) -> str:
    finding = payload["finding"]
    return f"{finding['kind']}: {finding['text']}"


def _beat(payload: Payload, scales: Scales | None) -> str:
    return f"{payload['owner']}, TTL {payload['ttl_ns'] / NS_PER_S:g} s"


def _lapse(payload: Payload, scales: Scales | None) -> str:
    silence = f"none for {payload['silent_ns'] / NS_PER_S:.1f} s, the last at position {payload['beat_position']}"
    return f"{payload['owner']} missed its heartbeat: {silence}"


def _member_filled(payload: Payload, scales: Scales | None) -> str:
    # The event does not name its symbol; `event_sentence` may add it.
    filled = quantity(payload.get("symbol_id", ""), payload["cum_qty"], scales)
    return f"{payload['intent_id']} filled {filled}"


def _fields(*names: str) -> Callable[[Payload, Scales | None], str]:
    return lambda payload, scales: ", ".join(f"{name} {payload[name]}" for name in names if name in payload)


def _external(payload: Payload, scales: Scales | None) -> str:
    what = _fields("symbol_id", "exec_type", "exchange_order_id")(payload, scales)
    if payload.get("gone"):
        return f"{what}, no longer listed"
    traded = _fill(payload, scales) if {"side", "fill_key", "last_qty", "last_px"} <= payload.keys() else ""
    return f"{what}, {traded}" if traded else what


_held = _fields("intent_id", "symbol_id")


def _paused(payload: Payload, scales: Scales | None) -> str:
    what = "halted, cancels are sent" if payload.get("cancels") else ""
    return ", ".join(filter(None, (_held(payload, scales), what)))


def _balances(payload: Payload, scales: Scales | None) -> str:
    totals = {asset_id: balance["total"] for asset_id, balance in payload["balances"].items()}
    return ", ".join(
        f"{asset_id} {total if scales is None else scales.amount(asset_id, total)}"
        for asset_id, total in totals.items()
    )


def _group_worked(payload: Payload, scales: Scales | None) -> str:
    return f"group {payload['group_id']} is managed by the {'venue' if payload['native'] else 'kernel'}"


REPORTS = (
    "OrderAccepted", "OrderRejected", "OrderTriggered", "OrderModified", "ModifyRejected", "OrderCanceled",
    "CancelRejected", "OrderExpired", "OrderStateObserved", "FillBusted",
)  # fmt: skip
SENTENCES: Mapping[str, Callable[[Payload, Scales | None], str]] = {
    "IntentCreated": _intent,
    "IntentModified": _intent,
    "IntentCancelRequested": lambda payload, scales: f"cancel requested, generation {payload['generation']}",
    "IntentDeleted": lambda payload, scales: "deleted",
    "GroupCreated": lambda payload, scales: f"{payload['mode']} of {', '.join(payload['intent_ids'])}",
    "GroupWorked": _group_worked,
    "GroupUpdated": _member_filled,
    "AttemptStarted": _attempt,
    "AttemptFailed": _answer,
    "AttemptUnknown": _answer,
    "AttemptResolved": _answer,
    **dict.fromkeys(REPORTS, _report),
    "OrderFilled": _fill,
    "FillCorrected": _fill,
    "FillInferred": _inferred,
    "OrderStateRecorded": lambda payload, scales: f"recorded as {payload['state']['status']['ord_status']}",
    "OrderStateForgotten": lambda payload, scales: "order state forgotten",
    "VenueSnapshotTaken": _snapshot,
    "BalancesObserved": _balances,
    "PositionObserved": _fields("symbol_id", "quantity"),
    "TransferObserved": _fields("asset_id", "amount"),
    "ExternalOrderObserved": _external,
    "SymbolObserved": lambda payload, scales: f"{payload['symbol'].get('status', 'TRADING')}",
    "AssetObserved": lambda payload, scales: f"{payload['asset']['asset_id']}, {payload['asset']['decimals']} decimals",
    "LogCreated": _fields("log_id", "exchange_id"),
    "LeaderElected": _fields("epoch", "holder"),
    "KernelStarted": _fields("kernel_version", "epoch"),
    "CapabilitiesChanged": lambda payload, scales: "the venue's capabilities changed",
    "KernelStopped": _fields("epoch"),
    "Paused": _paused,
    "Resumed": _held,
    "FindingRaised": _finding,
    "FindingResolved": _fields("finding_id"),
    "HeartbeatReceived": _beat,
    "HeartbeatLapsed": _lapse,
    "HeartbeatDisarmed": _fields("owner"),
}
"""The words for each topic; `sentence` adds the fields `text` and `reason`."""

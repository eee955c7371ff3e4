"""What an operator or a test can do to a paper exchange: one table of acts, the same in-process and over the wire.

Called by `paper_link` and `paper_server`. Parameters and results are JSON values; quantities and prices are integers.

    truth                                        every order and trade of the client, and balances, without lag
    other_order    order, account="other"        another account places an order; its venue id
    cancel_order   client_order_id | exchange_order_id, text    the exchange cancels an order by itself
    bust           trade_id                      a trade is void
    correct        trade_id, price, quantity     a trade has other terms
    halt, resume   symbol_id                     stop and start trading in a symbol
    filters        symbol_id, tick_size, lot_size    a symbol has another tick or lot from now on
    step           count=1                       play the next trades of the tape; how many there were
    trade          symbol_id, price, quantity    one trade of the market, as if the tape had it
    last_price     symbol_id                     the last trade price of the tape
    fault          fault                         script one more fault
    disconnect                                   break every session
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kernel.errors import ValidationError, Violation
from kernel.order_spec import StandardOrder
from kernel.venues.paper.exchange import PaperExchange
from kernel.venues.paper.faults import Fault, FaultPlan


def administer(exchange: PaperExchange, op: str, params: dict[str, Any]) -> Any:
    """Do one act. `ValidationError` for an unknown one or bad parameters; else what the act raises."""
    act = ACTS.get(op)
    if act is None:
        raise ValidationError(violations=[Violation("op", "choice", "one of " + ", ".join(sorted(ACTS)), op)])
    try:
        return act(exchange, **params)
    except (TypeError, ValueError) as error:
        if isinstance(error, ValidationError):
            raise
        text = "parameters {value} do not fit: {limit}"
        raise ValidationError(op, [Violation("params", "form", str(error), str(params), text)]) from error


def _oracle_state(exchange: PaperExchange) -> dict[str, Any]:
    return exchange.engine.truth()


def _other_order(exchange: PaperExchange, *, order: dict[str, Any], account: str = "other") -> str:
    return exchange.engine.place_other(StandardOrder.model_validate(order), account=account)


def _cancel_order(
    exchange: PaperExchange,
    *,
    client_order_id: str | None = None,
    exchange_order_id: str | None = None,
    text: str | None = None,
) -> None:
    exchange.engine.cancel_order(client_order_id=client_order_id, exchange_order_id=exchange_order_id, text=text)


def _bust(exchange: PaperExchange, *, trade_id: int | str) -> None:
    exchange.engine.bust(trade_id)


def _correct(
    exchange: PaperExchange, *, trade_id: int | str, price: int | None = None, quantity: int | None = None
) -> None:
    exchange.engine.correct(trade_id, price=price, quantity=quantity)


def _halt(exchange: PaperExchange, *, symbol_id: str) -> None:
    exchange.engine.halt(symbol_id)


def _resume(exchange: PaperExchange, *, symbol_id: str) -> None:
    exchange.engine.resume(symbol_id)


def _filters(
    exchange: PaperExchange, *, symbol_id: str, tick_size: int | None = None, lot_size: int | None = None
) -> None:
    exchange.engine.set_filters(symbol_id, tick_size=tick_size, lot_size=lot_size)


STEPS_MAX = 100_000
"""Trades that one act may play: nobody else is answered meanwhile."""


def _step(exchange: PaperExchange, *, count: int = 1) -> int:
    if not 0 <= count <= STEPS_MAX:
        raise ValidationError(violations=[Violation("count", "range", f"from 0 to {STEPS_MAX}", str(count))])
    return exchange.step(count)


def _trade(exchange: PaperExchange, *, symbol_id: str, price: int, quantity: int) -> None:
    exchange.trade(symbol_id, price=price, quantity=quantity)


def _last_price(exchange: PaperExchange, *, symbol_id: str) -> int:
    return exchange.engine.last_price(symbol_id)


def _fault(exchange: PaperExchange, *, fault: dict[str, Any]) -> None:
    if not isinstance(exchange.faults, FaultPlan):
        raise ValidationError("this exchange draws its faults by chance alone: give it a FaultPlan with rates")
    exchange.faults.add(Fault.model_validate(fault))


def _disconnect(exchange: PaperExchange) -> None:
    exchange.disconnect()


ACTS: Mapping[str, Callable[..., Any]] = {
    "truth": _oracle_state,
    "other_order": _other_order,
    "cancel_order": _cancel_order,
    "bust": _bust,
    "correct": _correct,
    "halt": _halt,
    "resume": _resume,
    "filters": _filters,
    "step": _step,
    "trade": _trade,
    "last_price": _last_price,
    "fault": _fault,
    "disconnect": _disconnect,
}
"""Every act by its name."""

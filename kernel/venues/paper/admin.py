"""Administrative operations on a paper exchange, for operators and tests.

Called by `transport` (in process) and `server` (over a socket). Parameters and results are JSON values; prices and
quantities are scaled integers.

    truth                                        every order and trade of the client, and the balances, without lag
    other_order    order, account="other"        place an order for another account; returns its venue id
    cancel_order   client_order_id | exchange_order_id, text    cancel an order on the exchange's own initiative
    bust           trade_id                      void a trade
    correct        trade_id, price, quantity     change the terms of a trade
    halt, resume   symbol_id                     stop and resume trading in a symbol
    filters        symbol_id, tick_size, lot_size    change a symbol's tick size or lot size
    step           count=1                       play the next trades of the tape; returns their number
    trade          symbol_id, price, quantity    simulate one trade of the market
    last_price     symbol_id                     return the tape's last trade price
    fault          fault                         add a scripted fault
    disconnect                                   break every session
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pydantic

from kernel.errors import ValidationError
from kernel.order_spec import StandardOrder
from kernel.values.edge import validated, violations_of
from kernel.venues.paper.exchange import PaperExchange
from kernel.venues.paper.faults import Fault, FaultPlan

STEPS_MAX = 100_000
"""Trades that one `step` may play; the exchange answers nobody else meanwhile."""


def administer(exchange: PaperExchange, op: str, params: dict[str, Any]) -> Any:
    """Run one operation; see the module's docstring.

    Raises `ValidationError` if the operation does not exist or its parameters are invalid, otherwise what it raises.
    """
    if op not in OPERATIONS:
        raise ValidationError(f"operation {op!r} does not exist; the operations are {', '.join(sorted(OPERATIONS))}")
    operation = OPERATIONS[op](exchange)
    try:
        return pydantic.validate_call(config=pydantic.ConfigDict(strict=True))(operation)(**params)
    except pydantic.ValidationError as problem:
        raise ValidationError(f"operation {op!r} does not take {params}", violations_of(problem)) from problem
    except ValidationError:
        raise
    except (TypeError, ValueError) as error:
        raise ValidationError(f"operation {op!r} does not take {params}: {error}") from error


def _place_other(exchange: PaperExchange, *, order: dict[str, Any], account: str = "other") -> str:
    return exchange.engine.place_other(validated(order, StandardOrder), account=account)


def _step(exchange: PaperExchange, *, count: int = 1) -> int:
    if not 0 <= count <= STEPS_MAX:
        raise ValidationError(f"cannot play {count} trades at once: give a count in the range 0 … {STEPS_MAX}")
    return exchange.step(count)


def _add_fault(exchange: PaperExchange, *, fault: dict[str, Any]) -> None:
    if not isinstance(exchange.faults, FaultPlan):
        raise ValidationError("this exchange takes no scripted faults: start it with a `FaultPlan`")
    exchange.faults.add(validated(fault, Fault))


OPERATIONS: Mapping[str, Callable[[PaperExchange], Callable[..., Any]]] = {
    "truth": lambda exchange: exchange.engine.truth,
    "other_order": lambda exchange: partial(_place_other, exchange),
    "cancel_order": lambda exchange: exchange.engine.cancel_order,
    "bust": lambda exchange: exchange.engine.bust,
    "correct": lambda exchange: exchange.engine.correct,
    "halt": lambda exchange: exchange.engine.halt,
    "resume": lambda exchange: exchange.engine.resume,
    "filters": lambda exchange: exchange.engine.set_filters,
    "step": lambda exchange: partial(_step, exchange),
    "trade": lambda exchange: exchange.trade,
    "last_price": lambda exchange: exchange.engine.last_price,
    "fault": lambda exchange: partial(_add_fault, exchange),
    "disconnect": lambda exchange: exchange.disconnect,
}

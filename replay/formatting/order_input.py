"""An order as people write it made into one as the kernel takes it: decimals in, integers at the symbol's scale out.

Called by the CLI's `place`. The way back is `decimals`. Promises exactness or a `ValidationError` that lists every problem.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from kernel import EventSourcedKernel
from kernel.commands.validation import symbol_named
from kernel.errors import ValidationError, Violation
from kernel.order_spec import OrderType, Side, StandardOrder, TimeInForce


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderInput:
    """An order in a user's words."""

    side: str
    quantity: str
    symbol_id: str
    limit: str | None = None
    """Limit price; with it the order is a LIMIT or STOP_LIMIT."""
    stop: str | None = None
    """Trigger price; with it the order is a STOP or STOP_LIMIT."""
    time_in_force: str = "GTC"
    post_only: bool = False


def order_of(kernel: EventSourcedKernel, text: OrderInput) -> StandardOrder:
    """The order, at its symbol's scales.

    Raises `ValidationError` (all problems of the numbers, or an unknown symbol), `NotReadyError` when no market is known,
    and pydantic's error for an order that contradicts itself.
    """
    symbol = symbol_named(kernel.state, text.symbol_id)
    problems: list[Violation] = []
    quantity = scaled(symbol.quantity_from_decimal, text.quantity, "order.quantity", problems)
    limit = scaled(symbol.price_from_decimal, text.limit, "order.price", problems)
    stop = scaled(symbol.price_from_decimal, text.stop, "order.stop_price", problems)
    if problems or quantity is None:
        raise ValidationError("the order is not valid", problems)
    return StandardOrder(
        symbol_id=text.symbol_id,
        side=Side(text.side.upper()),
        order_type=order_type(limited=limit is not None, stopped=stop is not None),
        quantity=quantity,
        price=limit,
        stop_price=stop,
        time_in_force=TimeInForce(text.time_in_force.upper()),
        post_only=text.post_only,
    )


def modified_order(
    kernel: EventSourcedKernel,
    known: StandardOrder,
    *,
    quantity: str | None = None,
    limit: str | None = None,
    stop: str | None = None,
) -> StandardOrder:
    """An order with other numbers, at its symbol's scales; what is not given stays.

    Raises `ValidationError` (all problems of the numbers, or nothing given), and pydantic's error for a price that the
    order's type does not have.
    """
    given = {"quantity": quantity, "price": limit, "stop_price": stop}
    if not any(given.values()):
        raise ValidationError("nothing to modify: give a quantity, a limit or a stop price")
    symbol = symbol_named(kernel.state, known.symbol_id)
    problems: list[Violation] = []
    changed = {
        name: scaled(
            symbol.quantity_from_decimal if name == "quantity" else symbol.price_from_decimal,
            text,
            f"order.{name}",
            problems,
        )
        for name, text in given.items()
        if text is not None
    }
    if problems:
        raise ValidationError("the change is not valid", problems)
    return StandardOrder.model_validate(vars(known) | changed)


def scaled(convert: Callable[[str], int], text: str | None, field: str, problems: list[Violation]) -> int | None:
    """A decimal as an integer; what is wrong with it is added to the problems."""
    if text is None:
        return None
    try:
        return convert(text)
    except ValidationError as problem:
        problems += [replace(item, field=field) for item in problem.violations]
        return None


def order_type(*, limited: bool, stopped: bool) -> OrderType:
    """The type that an order has by the prices it names."""
    if stopped:
        return OrderType.STOP_LIMIT if limited else OrderType.STOP
    return OrderType.LIMIT if limited else OrderType.MARKET

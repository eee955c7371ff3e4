"""Decimals of the command line as orders: integers at the symbol's scale, exactly or with a `ValidationError`.

Called by `place` and `modify`. The other direction is `decimals`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import structs
from msgspec.structs import replace

from kernel import EventSourcedKernel
from kernel.commands.validation import symbol_named
from kernel.errors import ValidationError, Violation
from kernel.order_spec import OrderType, Side, StandardOrder, TimeInForce

ORDER_TYPES = {
    (False, False): OrderType.MARKET,
    (True, False): OrderType.LIMIT,
    (False, True): OrderType.STOP,
    (True, True): OrderType.STOP_LIMIT,
}
"""The order's type, by whether it has a limit price and a stop price."""


class OrderInput(msgspec.Struct, frozen=True, kw_only=True):
    """An order as typed by a user."""

    side: str
    quantity: str
    symbol_id: str
    limit: str | None = None
    """Limit price; makes a LIMIT or STOP_LIMIT order."""
    stop: str | None = None
    """Stop price; makes a STOP or STOP_LIMIT order."""
    time_in_force: str = "GTC"
    post_only: bool = False


def order_of(kernel: EventSourcedKernel, text: OrderInput) -> StandardOrder:
    """Return the order at its symbol's scales.

    Raises `ValidationError` for all numbers that do not fit the scales or an unknown symbol, `NotReadyError` while the
    log has no symbols, and `ValidationError` if the order contradicts itself.
    """
    symbol = symbol_named(kernel.state, text.symbol_id)
    problems: list[Violation] = []
    quantity = scaled(symbol.quantity_from_decimal, text.quantity, "order.quantity", problems)
    limit = scaled(symbol.price_from_decimal, text.limit, "order.price", problems)
    stop = scaled(symbol.price_from_decimal, text.stop, "order.stop_price", problems)
    if problems or quantity is None:
        raise ValidationError("the order is not valid", problems)
    return StandardOrder.checked(
        symbol_id=text.symbol_id,
        side=Side(text.side.upper()),
        order_type=ORDER_TYPES[limit is not None, stop is not None],
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
    """Return the order with other numbers, at its symbol's scales; None keeps a number.

    Raises `ValidationError` if numbers do not fit the scales, none is given, or the order's type has no such price.
    """
    given = {"quantity": quantity, "price": limit, "stop_price": stop}
    if not any(given.values()):
        raise ValidationError("nothing to modify: give --quantity, --limit or --stop")
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
    return StandardOrder.checked(**structs.asdict(known) | changed)


def scaled(convert: Callable[[str], int], text: str | None, field: str, problems: list[Violation]) -> int | None:
    """Convert a decimal to an integer; its problems are appended to `problems`."""
    if text is None:
        return None
    try:
        return convert(text)
    except ValidationError as problem:
        problems += [replace(item, field=field) for item in problem.violations]
        return None

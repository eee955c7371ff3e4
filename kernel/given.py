"""What is given from outside, checked before anything is recorded: what could not be read again must never be stored.

Used by the controller (orders) and by both kinds of stores (records). Models are frozen, but can be built or copied without
validation; here they are built anew. Markets are not checked here.
"""

from __future__ import annotations

from typing import TypeVar

import pydantic

from kernel.errors import ValidationError, Violation
from kernel.events import canonical_json
from kernel.models import OrderIntent, UnsolicitedCancelPolicy
from kernel.order_spec import Model, StandardOrder

Given = TypeVar("Given", bound=Model)


def checked(given: Given, model: type[Given]) -> Given:
    """A record as it will be read again. `ValidationError` lists all that is wrong with it."""
    check_type(given, model)
    what = f"this is no valid {model.__name__}"
    try:
        return model.model_validate_json(canonical_json(given.model_dump(mode="json", warnings=False)))
    except pydantic.ValidationError as problem:
        raise ValidationError(what, violations_of(problem)) from problem
    except (ValueError, TypeError) as problem:
        raise ValidationError(f"{what}: it can't be written as JSON: {problem}") from problem


def check_type(given: object, model: type[Model]) -> None:
    """`ValidationError` for what is no such model at all."""
    if not isinstance(given, model):
        name = model.__name__
        raise ValidationError(f"this is no {name}", [Violation(name, "type", name, type(given).__name__)])


def new_intent(
    order: StandardOrder,
    *,
    intent_id: str,
    exchange_id: str,
    owner: str,
    on_unsolicited_cancel: UnsolicitedCancelPolicy,
    metadata: dict[str, object],
    now_ns: int,
    group_id: str | None = None,
) -> OrderIntent:
    """An intent as a command makes it. `ValidationError` lists every field that is not as it must be."""
    try:
        return OrderIntent.model_validate(
            {
                "intent_id": intent_id,
                "exchange_id": exchange_id,
                "order": vars(order),
                "group_id": group_id,
                "owner": owner,
                "on_unsolicited_cancel": on_unsolicited_cancel,
                "metadata": metadata,
                "created_at_ns": now_ns,
                "updated_at_ns": now_ns,
            }
        )
    except pydantic.ValidationError as problem:
        raise ValidationError("the intent is not valid", violations_of(problem)) from problem


def violations_of(problem: pydantic.ValidationError) -> list[Violation]:
    """Pydantic's errors in our words."""
    return [
        Violation(".".join(map(str, error["loc"])) or "record", error["type"], error["msg"], repr(error["input"]))
        for error in problem.errors(include_url=False)
    ]

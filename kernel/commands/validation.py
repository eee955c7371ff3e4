"""What is given from outside, checked before anything is recorded: what could not be read again must never be stored.

Used by the controller (orders) and by both kinds of stores (records). Models are frozen, but can be built or copied without
validation; here they are built anew. Markets are not checked here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import pydantic
from pydantic_core import ErrorDetails

from kernel.errors import NotReadyError, ValidationError, Violation
from kernel.events import canonical_json
from kernel.models import OrderIntent, UnsolicitedCancelPolicy
from kernel.order_spec import (
    EXCHANGE_ID_PATTERN,
    EXCHANGE_ID_RULE,
    INTENT_ID_PATTERN,
    INTENT_ID_RULE,
    Model,
    StandardOrder,
    SymbolMetadata,
)
from kernel.state import KernelState

Validated = TypeVar("Validated", bound=Model)
VALUE_LENGTH_MAX = 100
SYMBOLS_SHOWN_MAX = 10
PATTERNS = {
    INTENT_ID_PATTERN: INTENT_ID_RULE,
    EXCHANGE_ID_PATTERN: EXCHANGE_ID_RULE,
}
RULES = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "enum": "must be {expected}",
    "string_type": "must be text",
    "string_pattern_mismatch": "must be {pattern}",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_from_float": "must be an integer",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "decimal_parsing": "must be a decimal number",
    "finite_number": "must be a finite number",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "dict_type": "must be a mapping",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "model_type": "must be a mapping",
}
"""Rules by pydantic's type of error; an error of another type is named by it."""


def validated(given: Validated, model: type[Validated]) -> Validated:
    """A record as it will be read again. `ValidationError` lists all that is wrong with it."""
    check_type(given, model)
    what = f"the {model.__name__} is not valid"
    try:
        return model.model_validate_json(canonical_json(given.model_dump(mode="json", warnings=False)))
    except pydantic.ValidationError as problem:
        raise ValidationError(what, violations_of(problem)) from problem
    except (ValueError, TypeError) as problem:
        raise ValidationError(f"{what}: it cannot be written as JSON: {problem}") from problem


def check_type(given: object, model: type[Model]) -> None:
    """`ValidationError` for what is no such model at all."""
    if not isinstance(given, model):
        name, text = model.__name__, "expected a {limit}, not `{value}`"
        raise ValidationError(violations=[Violation(name, "type", name, type(given).__name__, text)])


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
    """Pydantic's errors as violations, in our words: no message depends on the release of pydantic."""
    return [item for error in problem.errors(include_url=False) for item in _violations(error)]


def _violations(error: ErrorDetails) -> Iterable[Violation]:
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, ValidationError):  # a model's own check, which may find several problems at once
        return cause.violations
    field = ".".join(map(str, error["loc"])) or "record"
    rule = str(cause) if cause is not None else RULES.get(error["type"], error["type"])
    if cause is None:
        context = error.get("ctx", {})
        rule = rule.format_map({**context, "pattern": PATTERNS.get(context.get("pattern", ""), "of another form")})
    if error["type"] == "string_pattern_mismatch":
        field = field.replace("_", " ")
    value = _shown(error)
    text = (
        "{field} `{value}`: {limit}" if value else "{field}: {limit}" if rule.startswith("must") else "{field} {limit}"
    )
    return [Violation(field, error["type"], rule, value, text)]


def _shown(error: ErrorDetails) -> str:
    """The value that was given, where it is one and not a structure."""
    given = error["input"]
    return str(given)[:VALUE_LENGTH_MAX] if isinstance(given, str | int | float) else ""


def symbol_named(state: KernelState, symbol_id: str, *, missing: tuple[str, ...] = ()) -> SymbolMetadata:
    """A symbol, as last observed.

    Raises:
        NotReadyError: No symbol is known yet; `missing` are the conditions that it names.
        ValidationError: The symbol is not among those known.
    """
    if (found := state.symbol(symbol_id)) is not None:
        return found
    if not (names := known_symbols(state)):
        raise NotReadyError("no market is known yet: start `orderctl run` on this log first", missing=missing)
    text = "symbol `{value}` is not known; known symbols: {limit}"
    raise ValidationError(violations=[Violation("order.symbol_id", "symbol", names, symbol_id, text)])


def known_symbols(state: KernelState) -> str:
    """The ids of the symbols known, the first of them where they are many; empty when none is."""
    names = sorted(symbol.symbol_id for symbol in state.symbols())
    return ", ".join(names[:SYMBOLS_SHOWN_MAX]) + (" …" if len(names) > SYMBOLS_SHOWN_MAX else "")

"""Validates records and orders before they are stored, so that everything stored can be read again.

Called by the controller and both kinds of stores. Frozen models can be built without validation, so they are built anew
here. Symbol constraints are checked elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TypeVar

import pydantic
from pydantic_core import ErrorDetails

from kernel.errors import NotReadyError, ValidationError, Violation
from kernel.events import canonical_json
from kernel.models import OrderIntent
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
ID_FIELDS = frozenset({"intent_id", "group_id", "exchange_id"})
PATTERNS = {INTENT_ID_PATTERN: INTENT_ID_RULE, EXCHANGE_ID_PATTERN: EXCHANGE_ID_RULE}
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
"""Rule by pydantic's type of error, so that no message depends on the release of pydantic."""


def validated(record: Validated, model: type[Validated]) -> Validated:
    """Return a record as it will be read again; `ValidationError` lists everything wrong with it."""
    check_type(record, model)
    what = invalid(model.__name__)
    try:
        return model.model_validate_json(canonical_json(record.model_dump(mode="json", warnings=False)))
    except pydantic.ValidationError as problem:
        raise ValidationError(what, violations_of(problem)) from problem
    except (ValueError, TypeError) as problem:
        raise ValidationError(f"{what}: it cannot be written as JSON: {problem}") from problem


def invalid(model_name: str) -> str:
    """Return the first line of an error about a model, as in "invalid kernel settings"."""
    return "invalid " + re.sub(r"\B(?=[A-Z])", " ", model_name).lower()


def check_type(value: object, model: type[Model]) -> None:
    """Raise `ValidationError` unless a value is of a model."""
    if not isinstance(value, model):
        name, text = model.__name__, "expected a {limit}, not `{value}`"
        raise ValidationError(violations=[Violation(name, "type", name, type(value).__name__, text)])


def new_intent(order: StandardOrder, *, now_ns: int, **fields: Any) -> OrderIntent:
    """Return the intent of a command, with the other `fields` of the model; `ValidationError` lists what is invalid."""
    stamps = {"created_at_ns": now_ns, "updated_at_ns": now_ns}
    try:
        return OrderIntent.model_validate({"order": vars(order), **stamps, **fields})
    except pydantic.ValidationError as problem:
        raise ValidationError("the intent is not valid", violations_of(problem)) from problem


def violations_of(problem: pydantic.ValidationError) -> list[Violation]:
    """Return pydantic's errors as violations."""
    return [item for error in problem.errors(include_url=False) for item in _violations(error)]


def _violations(error: ErrorDetails) -> Iterable[Violation]:
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, ValidationError):  # a model's own check
        return cause.violations
    field = ".".join(map(str, error["loc"])) or "record"
    rule = str(cause) if cause is not None else RULES.get(error["type"], error["type"])
    if cause is None:
        context = error.get("ctx", {})
        rule = rule.format_map({**context, "pattern": PATTERNS.get(context.get("pattern", ""), "of another form")})
    value = _shown(error)
    name = field.replace("_", " ") if field in ID_FIELDS else "{field}"
    text = (
        "{field} {limit}"
        if rule.startswith("is ")
        else f"{name} `{{value}}`: {{limit}}"
        if value
        else "{field}: {limit}"
    )
    return [Violation(field, error["type"], rule, value, text)]


def _shown(error: ErrorDetails) -> str:
    """Return the given value as text; empty for structures."""
    value = error["input"]
    return str(value)[:VALUE_LENGTH_MAX] if isinstance(value, str | int | float) else ""


def symbol_named(state: KernelState, symbol_id: str, *, missing: tuple[str, ...] = ()) -> SymbolMetadata:
    """Return a symbol; `ValidationError` if only others are known, `NotReadyError` (naming `missing`) if none is."""
    if (found := state.symbol(symbol_id)) is not None:
        return found
    if not (names := known_symbols(state)):
        raise NotReadyError("no symbol is known yet: start `orderctl run` on this log first", missing=missing)
    text = "symbol `{value}` is not known; known symbols: {limit}"
    raise ValidationError(violations=[Violation("order.symbol_id", "symbol", names, symbol_id, text)])


def known_symbols(state: KernelState) -> str:
    """Return the first ids of the known symbols as text; empty if none is known."""
    names = sorted(symbol.symbol_id for symbol in state.symbols())
    return ", ".join(names[:SYMBOLS_SHOWN_MAX]) + (" …" if len(names) > SYMBOLS_SHOWN_MAX else "")

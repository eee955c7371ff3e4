"""Validates what comes from outside: commands, store writes, settings, manifests, answers of venues. Lists every violation.

Pydantic validates, by a form made from the fields of the `Value`. A value that was only constructed is validated like any
other input. What comes back shares nothing mutable with what was given.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable
from functools import cache
from typing import Any, TypeVar, get_type_hints

import pydantic
from msgspec import structs
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, core_schema

from kernel.errors import ValidationError, Violation
from kernel.order_spec import EXCHANGE_ID_PATTERN, EXCHANGE_ID_RULE, INTENT_ID_PATTERN, INTENT_ID_RULE
from kernel.values import Value, as_json, defaults_of

AnyValue = TypeVar("AnyValue", bound=Value)
CONFIG = core_schema.CoreConfig(allow_inf_nan=False)
VALUE_LENGTH_MAX = 100
ID_FIELDS = frozenset({"intent_id", "group_id", "exchange_id"})
PATTERNS = {INTENT_ID_PATTERN: INTENT_ID_RULE, EXCHANGE_ID_PATTERN: EXCHANGE_ID_RULE}
RULES = {
    "missing": "is required",
    "missing_keyword_only_argument": "is required",
    "missing_argument": "is required",
    "extra_forbidden": "is not a known field",
    "unexpected_keyword_argument": "is not a known field",
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


def validated(given: object, kind: type[AnyValue], *, what: str = "") -> AnyValue:
    """Return a value of a kind, from one or from its fields; `ValidationError` lists everything wrong with it."""
    if not isinstance(given, dict):
        check_type(given, kind)
    try:
        value: AnyValue = adapter(kind).validate_python(given)
        return value
    except pydantic.ValidationError as problem:
        raise ValidationError(what or invalid(kind.__name__), violations_of(problem)) from problem


def check_type(value: object, kind: type[Value]) -> None:
    """Raise `ValidationError` unless a value is of a kind."""
    if not isinstance(value, kind):
        name, text = kind.__name__, "expected a {limit}, not `{value}`"
        raise ValidationError(violations=[Violation(name, "type", name, type(value).__name__, text)])


def invalid(name: str) -> str:
    """Return the first line of an error about a kind of value, as in "invalid kernel settings"."""
    return "invalid " + re.sub(r"\B(?=[A-Z])", " ", name).lower()


@cache
def adapter(kind: type[AnyValue]) -> pydantic.TypeAdapter[AnyValue]:
    return pydantic.TypeAdapter(kind)


@cache
def fields_of(kind: type[Value]) -> dict[str, FieldInfo]:
    """Return the fields of a kind of value as pydantic sees them."""
    hints, defaults = get_type_hints(kind, include_extras=True), defaults_of(kind)
    return {
        name: FieldInfo.from_annotated_attribute(hints[name], defaults[name])
        if name in defaults
        else FieldInfo.from_annotation(hints[name])
        for name in kind.__struct_fields__
    }


def core_schema_of(kind: type[Value], handler: pydantic.GetCoreSchemaHandler) -> core_schema.CoreSchema:
    def given_fields(given: object) -> object:
        return structs.asdict(given) if isinstance(given, kind) else given

    def made(fields: dict[str, Any]) -> Value:
        value = kind(**fields)
        if problems := value.contradictions():
            raise ValidationError("", problems)
        return value

    hints, defaults = get_type_hints(kind, include_extras=True), defaults_of(kind)
    fields = {
        name: core_schema.typed_dict_field(handler.generate_schema(hints[name]), required=name not in defaults)
        for name in kind.__struct_fields__
    }
    form = core_schema.typed_dict_schema(fields, cls=kind, extra_behavior="forbid", config=CONFIG)
    checked = core_schema.no_info_after_validator_function(made, form)
    return core_schema.json_or_python_schema(
        json_schema=checked,  # strict JSON stays JSON
        python_schema=core_schema.no_info_before_validator_function(given_fields, checked),
        ref=f"{kind.__module__}.{kind.__qualname__}:{id(kind)}",
        serialization=core_schema.plain_serializer_function_ser_schema(as_json),
    )


def json_schema_of(
    kind: type[Value], schema: core_schema.CoreSchema, handler: pydantic.GetJsonSchemaHandler
) -> dict[str, Any]:
    """Return the JSON schema of a kind of value, with the docstrings and defaults of its fields."""
    found = handler(schema)
    properties = handler.resolve_ref_schema(found)["properties"]
    docs = field_docs(kind)
    for name in properties.keys() & docs.keys():
        properties[name]["description"] = docs[name]
    for name, default in defaults_of(kind).items():
        if not isinstance(default, dict):
            properties[name]["default"] = as_json(default)
    return found


@cache
def field_docs(kind: type) -> dict[str, str]:
    """Return the docstrings of a class's fields, those of its bases included; none where the source is missing."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        found |= docs_in(base)
    return found


def docs_in(kind: type) -> dict[str, str]:
    """Return the docstrings of the names that a class assigns; none where its source is missing."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    except (OSError, TypeError):  # installed without its source, or not written in Python
        return {}
    assert isinstance(body, ast.ClassDef), "the source of a class is a class"
    docs = {}
    for line, after in zip(body.body, body.body[1:], strict=False):
        names = (
            line.targets if isinstance(line, ast.Assign) else [line.target] if isinstance(line, ast.AnnAssign) else []
        )
        text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else None
        if names and isinstance(names[0], ast.Name) and isinstance(text, str):
            docs[names[0].id] = inspect.cleandoc(text)
    return docs


def violations_of(problem: pydantic.ValidationError) -> list[Violation]:
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

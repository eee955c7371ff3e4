"""The text of `explain`: what the fields of records, events and settings mean, taken from the models' docstrings.

Called by the CLI. A path begins with a type (`intent`, `order_state`, …), an event's topic or a model's name, and continues
through fields, lists and maps to the members of enums. Needs no log.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, TypeGuard, Union, get_args, get_origin

import pydantic
from pydantic.fields import FieldInfo

from kernel import events
from kernel.errors import NotFoundError
from kernel.models import AccountState, ExternalOrder, Finding, OrderIntent, OrderState, Position
from kernel.order_spec import UINT64_MAX, AssetMetadata, StandardOrder, StandardOrderGroup, SymbolMetadata
from kernel.settings import KernelSettings
from kernel.values import Value, edge
from kernel.venues.base import ExecutionReport, VenueCapabilities
from replay.views.groups import GroupState

Model = type[Value | pydantic.BaseModel]
Place = Model | type[Enum]

TYPES: Mapping[str, Model] = {
    "intent": OrderIntent,
    "order_state": OrderState,
    "standard_order": StandardOrder,
    "group": GroupState,
    "order_group": StandardOrderGroup,
    "position": Position,
    "account": AccountState,
    "symbol": SymbolMetadata,
    "asset": AssetMetadata,
    "finding": Finding,
    "external": ExternalOrder,
    "fill": events.OrderFilled,
    "report": ExecutionReport,
    "capabilities": VenueCapabilities,
    "settings": KernelSettings,
}
"""First parts of a path, besides the events' topics."""
ALIASES = {
    "order": "order_state", "ord": "order_state", "int": "intent", "pos": "position", "acc": "account", "sym": "symbol",
    "find": "finding", "f": "fill", "grp": "group", "ordergroup": "order_group", "ext": "external",
}  # fmt: skip
PLAIN_TYPES = {int: "integer", str: "text", bool: "true or false", float: "number", Decimal: "decimal", Any: "anything"}
LARGE = {UINT64_MAX: "2^64-1", 2**63 - 1: "2^63-1"}
WIDTH = 116
INDENT = "  "


def explain(path: str = "", *, recursive: bool = False) -> str:
    """Explain a path; without one, list all types and events. Raises `NotFoundError` with similar names."""
    if not path:
        return overview()
    steps = list(walk(path))
    place, field, walked = steps[-1]
    if isinstance(field, str):
        kind = steps[-2].place
        assert kind is not None, "a value has an enum above it"
        return member_page(kind, field)
    if place is not None and is_model(place):
        return model_page(walked, place, field, recursive=recursive)
    assert field is not None, "what is no model is a field"
    return field_page(walked, field, place)


class PathStop(NamedTuple):
    """A step of a path: the model or enum reached, the field or enum member that led there, and the path so far."""

    place: Place | None
    by: FieldInfo | str | None
    path: str


def walk(path: str) -> Iterator[PathStop]:
    """Yield the steps of a path. Raises `NotFoundError` with similar names."""
    first, *rest = path.split(".")
    place: Place | None = root_named(first)
    walked, by = first, None
    yield PathStop(place, None, walked)
    for word in rest:
        if place is None:
            raise NotFoundError(f"{walked} is {'a value' if by is None else type_text(by)} and has no fields")
        if issubclass(place, Enum):
            if word not in (members := member_docs(place)):
                raise NotFoundError(f"{walked} has no value {word!r}{hint(word, list(members))}")
            place, by, walked = None, None, f"{walked}.{word}"
            yield PathStop(None, word, walked)
            continue
        by = field_named(place, word, walked)
        place, walked = below(by.annotation), f"{walked}.{word}"
        yield PathStop(place, by, walked)


def place_of(path: str) -> Place | None:
    return list(walk(path))[-1].place


def root_named(word: str) -> Model:
    """Return the model that a path begins with: a type (plural or short too), a topic, or a class."""
    lower = word.lower()
    by_name = {name.lower(): model for name, model in roots()}
    for name in (lower, lower.removesuffix("s")):
        if (found := by_name.get(ALIASES.get(name, name))) is not None:
            return found
    raise NotFoundError(f"there is no type, event or model {word!r}{hint(word, [name for name, _ in roots()])}")


def roots() -> Iterator[tuple[str, Model]]:
    yield from TYPES.items()
    yield from events.REGISTRY.items()
    yield from ((model.__name__, model) for model in TYPES.values())


def is_model(place: Place) -> TypeGuard[Model]:
    return issubclass(place, Value | pydantic.BaseModel)


def fields_of(model: Model) -> Mapping[str, FieldInfo]:
    docs = edge.field_docs(model)
    fields = model.model_fields if issubclass(model, pydantic.BaseModel) else edge.fields_of(model)
    for name, field in fields.items():
        field.description = docs.get(name)
    return fields


def field_named(model: Model, word: str, walked: str) -> FieldInfo:
    if (found := fields_of(model).get(word)) is not None:
        return found
    raise NotFoundError(f"{walked} has no field {word!r}{hint(word, list(fields_of(model)))}")


def hint(word: str, known: Sequence[str]) -> str:
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower()[:64], list(by_lower), n=3, cutoff=0.5)
    if close:
        return f": did you mean {', '.join(by_lower[name] for name in close)}?"
    return f": use one of {', '.join(dict.fromkeys(known))}"


def below(annotation: Any) -> Place | None:
    """Return the model or enum inside a type, through lists, maps, unions and constraints."""
    if isinstance(annotation, type) and issubclass(annotation, Value | pydantic.BaseModel | Enum):
        return annotation
    inner = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    return next((found for item in reversed(inner) if (found := below(item)) is not None), None)


def type_text(field: FieldInfo) -> str:
    return typed(field.annotation, field.metadata)


def typed(annotation: Any, limits: Sequence[Any] = ()) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return typed(inner[0], (*limits, *inner[1:]))
    if origin in (Union, UnionType):
        words = dict.fromkeys(typed(item, limits) for item in inner if item is not NoneType)
        return " or ".join([*words, *(["none"] if NoneType in inner else [])])
    if origin in (tuple, list, frozenset, set):
        return f"list of {typed(inner[0])}"
    if origin is dict:
        return f"map of {typed(inner[1])}"
    name = str(PLAIN_TYPES.get(annotation) or getattr(annotation, "__name__", annotation))
    return name + limits_text(limits)


def limits_text(limits: Sequence[Any]) -> str:
    found: dict[str, Any] = {}
    for item in limits:
        for limit in (item, *getattr(item, "metadata", ())):
            found |= {
                name: value
                for name in ("ge", "gt", "le", "lt", "min_length", "max_length", "pattern")
                if (value := getattr(limit, name, None)) is not None
            }
    words = [
        f"{sign} {found[name]}" for name, sign in (("gt", "above"), ("ge", "from"), ("lt", "below")) if name in found
    ]
    if "le" in found:
        words.append(f"to {LARGE.get(found['le'], found['le'])}")
    if "max_length" in found:
        words.append(f"at most {found['max_length']} characters")
    if "pattern" in found:
        words.append(f"like {found['pattern']}")
    return f", {' '.join(words)}" if words else ""


@functools.cache
def member_docs(kind: type[Enum]) -> dict[str, str]:
    """The members of an enum with their docstrings, empty where there is none."""
    docs = edge.docs_in(kind)
    return {str(member.value): docs.get(member.name, "") for member in kind}


def overview() -> str:
    names = max(map(len, (*TYPES, *events.REGISTRY)))
    types = "".join(f"{INDENT}{name:{names}}  {first_sentence(model)}\n" for name, model in TYPES.items())
    topics = "".join(f"{INDENT}{name:{names}}  {first_sentence(model)}\n" for name, model in events.REGISTRY.items())
    return f"TYPES:\n{types}\nEVENTS:\n{topics}"


def first_sentence(model: Model) -> str:
    return " ".join((model.__doc__ or "").split()).partition(". ")[0].rstrip(".") + "."


def model_page(walked: str, model: Model, field: FieldInfo | None, *, recursive: bool) -> str:
    described: list[str] = [inspect.cleandoc(model.__doc__ or "")]
    head = f"KIND:   {model.__name__}\n"
    if field is not None:
        head += f"FIELD:  {walked} <{type_text(field)}>{presence(field)}\n"
        described.insert(0, field.description or "")
    lines = tree(model, above=(model,)) if recursive else field_lines(model)
    return f"{head}\n{section('DESCRIPTION', described)}\nFIELDS:\n{''.join(lines)}"


def field_lines(model: Model) -> Iterator[str]:
    for name, field in fields_of(model).items():
        yield f"{INDENT}{name} <{type_text(field)}>{presence(field)}\n"
        yield wrapped(field.description or "", INDENT * 2)
        inner = below(field.annotation)
        if inner is not None and issubclass(inner, Enum):
            yield wrapped(f"One of {', '.join(str(member.value) for member in inner)}.", INDENT * 2)


def tree(model: Model, *, above: tuple[Model, ...], indent: str = INDENT) -> Iterator[str]:
    for name, field in fields_of(model).items():
        yield f"{indent}{name} <{type_text(field)}>{presence(field)}\n"
        inner = below(field.annotation)
        if inner is not None and is_model(inner) and inner not in above:
            yield from tree(inner, above=(*above, inner), indent=indent + INDENT)


def field_page(walked: str, field: FieldInfo, kind: Place | None) -> str:
    head = f"FIELD:  {walked} <{type_text(field)}>{presence(field)}\n"
    text = f"{head}\n{section('DESCRIPTION', [field.description or ''])}"
    if kind is None:
        return text
    assert issubclass(kind, Enum), "a model has a page of its own"
    described = section("VALUES OF " + kind.__name__, [inspect.cleandoc(kind.__doc__ or "")])
    return f"{text}\n{described}{''.join(value_line(name, doc) for name, doc in member_docs(kind).items())}"


def value_line(name: str, doc: str) -> str:
    return f"{INDENT * 2}{name}\n" + (wrapped(doc, INDENT * 3) if doc else "")


def member_page(kind: Place, word: str) -> str:
    """One member of an enum; it ends a path."""
    assert issubclass(kind, Enum), "only enums have values"
    text = member_docs(kind)[word] or kind.__doc__ or ""
    return f"VALUE:  {word} of {kind.__name__}\n\n{section('DESCRIPTION', [text])}"


def presence(field: FieldInfo) -> str:
    if field.is_required():
        return " -required-"
    default = field.get_default(call_default_factory=True, validated_data={})
    shown = getattr(default, "value", default)
    empty = (
        shown is None
        or shown in ("", (), [], {}, frozenset())
        or isinstance(shown, Value | pydantic.BaseModel | frozenset)
    )
    return "" if empty else f" (default {str(shown).lower() if isinstance(shown, bool) else shown})"


def section(title: str, texts: Sequence[str]) -> str:
    return f"{title}:\n" + "".join(wrapped(text, INDENT) for text in texts if text)


def wrapped(text: str, indent: str) -> str:
    paragraphs = (" ".join(part.split()) for part in text.split("\n\n"))
    return "".join(
        textwrap.fill(part, WIDTH, initial_indent=indent, subsequent_indent=indent) + "\n"
        for part in paragraphs
        if part
    )

"""The form of manifests: orders and groups as files, read strictly and checked as far as possible without a symbol.

Called by `apply` and `diff`, and by whoever keeps orders in files. Every problem of every document is reported with its
file, document, field, value, rule and remedy. Decimals stay text: their scale is the symbol's, which `apply` looks up.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Self

import msgspec
import pydantic
from msgspec.structs import replace
from pydantic import BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from kernel.clock import NS_PER_S
from kernel.errors import NotFoundError, ValidationError, Violation
from kernel.groups import pair_violations, size_violations, symbol_violations
from kernel.models import UnsolicitedCancelPolicy
from kernel.order_spec import (
    INTENT_ID_PATTERN,
    OcoMode,
    OrderType,
    Side,
    StandardOrder,
    StandardOrderGroup,
    SymbolMetadata,
    TimeInForce,
    order_inconsistencies,
)
from replay.manifests.parser import MUST_BE, Ambiguous, Document, ManifestProblem, documents, joined, value_text

API_VERSION = "exchange-kernel/v1"
DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{1,18})?")
RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
SYMBOL_PATTERN = r"[!-~]{1,64}"
NAME_LIMIT = "a letter or digit, then up to 63 letters, digits, '.', '_', '-'"
TEXT_LENGTH_MAX = 128
INSTANT_NS_MAX = 2**63 - 1
MEMBER = re.compile(r"orders\[(\d+)\]")
"""An order of a group in the kernel's violations."""
GROUP_REMEDIES = {
    "size": "write that many; in ONE_TRIGGERS_OTHER the first order is the parent, followed by its children",
    "symbol": "give all orders of the group one symbol",
    "side": "a stop must be on the other side of the market than a limit order of the same side",
}
DECIMALS = {"quantity": True, "price": False, "stop_price": False, "display_quantity": True}
"""An order's decimal fields, and whether they are quantities."""
STDIN = "-"


class OrderManifest(msgspec.Struct, frozen=True, kw_only=True):
    """An order by its name; an order of a group has the group's owner and labels."""

    name: str
    terms: OrderForm
    owner: str = ""
    labels: dict[str, str] = {}
    on_unsolicited_cancel: UnsolicitedCancelPolicy = UnsolicitedCancelPolicy.STOP
    where: str = ""
    """Its file and document."""
    path: str = "spec"
    """Where its terms are in the document."""


class GroupManifest(msgspec.Struct, frozen=True, kw_only=True):
    """A group of contingent orders."""

    name: str
    mode: OcoMode
    orders: tuple[OrderManifest, ...]
    owner: str = ""
    labels: dict[str, str] = {}
    where: str = ""


Manifest = OrderManifest | GroupManifest


def orders_of(manifest: Manifest) -> tuple[OrderManifest, ...]:
    return (manifest,) if isinstance(manifest, OrderManifest) else manifest.orders


def read_manifests(files: Sequence[str | Path], *, stdin: Callable[[], bytes] | None = None) -> tuple[Manifest, ...]:
    """Read the manifests of files, in their order; `-` is stdin.

    Raises `NotFoundError` if a file cannot be read, and `ValidationError` with every problem of all files.
    """
    names = dict.fromkeys(map(str, files))
    return parse_manifests([("stdin" if name == STDIN else name, content_of(name, stdin)) for name in names])


def content_of(file: str, stdin: Callable[[], bytes] | None) -> bytes:
    if file == STDIN:
        return (stdin or sys.stdin.buffer.read)()
    try:
        return Path(file).read_bytes()
    except (OSError, ValueError) as problem:
        cause = getattr(problem, "strerror", None) or str(problem)
        raise NotFoundError(
            f"the manifest {file} cannot be read: {cause}; -f takes files, and - for stdin"
        ) from problem


def parse_manifests(contents: Iterable[tuple[str, bytes]]) -> tuple[Manifest, ...]:
    """Parse files given by name and content. Raises `ValidationError` with every problem of all files."""
    problems: list[ManifestProblem] = []
    found: list[Manifest] = []
    taken: dict[str, str] = {}
    names = []
    for name, content in contents:
        names.append(name)
        for document in documents(name, content):
            manifest = manifest_of(document, taken) if document.root is not None else None
            problems += document.problems
            if manifest is not None:
                found.append(manifest)
    if problems:
        raise ValidationError("the manifests are not valid, nothing was changed", problems)
    if not found:
        raise ValidationError(f"no manifest in {', '.join(names) or 'no file'}: write at least one document")
    return tuple(found)


def refused(constraint: str, limit: str, remedy: str) -> PydanticCustomError:
    return PydanticCustomError("manifest", "{limit}", {"constraint": constraint, "limit": limit, "remedy": remedy})


def rule(read: Callable[[Any], object], constraint: str, limit: str, remedy: str = "correct it") -> BeforeValidator:
    """A validator: `read` converts a value, or returns None if it breaks the rule."""

    def check(value: Any) -> object:
        if (found := read(value)) is None:
            raise refused(constraint, limit, remedy)
        return found

    return BeforeValidator(check)


def text(value: object) -> str:
    """Text; unquoted scalars that readers could interpret differently are refused."""
    if isinstance(value, str):
        return value
    remedy = "write one text" if isinstance(value, dict | list) else f'write it in quotes, "{value_text(value)}"'
    raise refused("type", "text", remedy)


def matching(pattern: str, limit: str) -> BeforeValidator:
    return rule(lambda value: text(value) if re.fullmatch(pattern, text(value)) else None, "form", limit)


def short(value: object) -> str | None:
    """Text of limited length; null is empty."""
    written = "" if value is None else text(value)
    return written if len(written) <= TEXT_LENGTH_MAX else None


def one_of(words: Iterable[str]) -> BeforeValidator:
    known = {str(word): word for word in words}

    def check(value: object) -> str:
        if (word := text(value)) in known:
            return known[word]
        raise refused("value", f"one of {', '.join(known)}", near_miss(word, list(known)))

    return BeforeValidator(check)


def decimal_text(value: object) -> str | None:
    """A decimal as text; an integer may be unquoted."""
    written = text(value) if isinstance(value, Ambiguous) else str(value) if type(value) is int else value
    return written if isinstance(written, str) and DECIMAL.fullmatch(written) else None


def as_flag(value: object) -> bool | None:
    """True or false, unquoted."""
    return value if isinstance(value, bool) else None


DECIMAL_LIMIT = "a decimal as text, not negative, without an exponent, at most 20 digits and 18 places"
INSTANT_LIMIT = "an RFC 3339 instant with its zone, from 1970 to 2262"
SYMBOL_LIMIT = "1 to 64 printable ASCII characters without a space"
Name = Annotated[str, matching(INTENT_ID_PATTERN.strip("^$"), NAME_LIMIT)]
Short = Annotated[str, rule(short, "length", f"at most {TEXT_LENGTH_MAX} characters", "shorten it")]
DecimalText = Annotated[str, rule(decimal_text, "form", DECIMAL_LIMIT, 'write it like "0.0015"')]
Instant = Annotated[
    int, rule(lambda value: instant_ns_of(text(value)), "form", INSTANT_LIMIT, 'write it like "2030-01-31T16:00:00Z"')
]
Flag = Annotated[bool, rule(as_flag, "type", "true or false", "write true or false, without quotes")]


class Form(pydantic.BaseModel):
    """A mapping of a manifest: null fields count as absent, unknown ones are a problem."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def without_empty_fields(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = field_names(cls)
        return {key: item for key, item in data.items() if item is not None or key not in known}


def field_names(form: type[Form]) -> tuple[str, ...]:
    return tuple(item.alias or name for name, item in form.model_fields.items())


class OrderForm(Form):
    """An order's terms: `StandardOrder` with decimals as text."""

    symbol_id: Annotated[str, matching(SYMBOL_PATTERN, SYMBOL_LIMIT)]
    side: Annotated[Side, one_of(Side)]
    order_type: Annotated[OrderType, one_of(OrderType)]
    quantity: DecimalText
    price: DecimalText | None = None
    stop_price: DecimalText | None = None
    time_in_force: Annotated[TimeInForce, one_of(TimeInForce)] = TimeInForce.GTC
    expire_at_ns: Instant | None = Field(None, alias="expire_at")
    post_only: Flag = False
    reduce_only: Flag = False
    display_quantity: DecimalText | None = None
    on_unsolicited_cancel: Annotated[UnsolicitedCancelPolicy, one_of(UnsolicitedCancelPolicy)] = (
        UnsolicitedCancelPolicy.STOP
    )

    @model_validator(mode="after")
    def is_consistent(self) -> Self:
        """Apply the kernel's rules that need no symbol, on decimals."""
        if found := list(order_inconsistencies(unscaled(self))):
            raise ValidationError("the order contradicts itself", found)
        return self


class MemberForm(OrderForm):
    """An order of a group."""

    name: Name


class GroupForm(Form):
    """A group of contingent orders."""

    mode: Annotated[OcoMode, one_of(OcoMode)]
    orders: list[MemberForm]

    @model_validator(mode="after")
    def is_consistent(self) -> Self:
        terms = tuple(unscaled(order) for order in self.orders)
        group = StandardOrderGroup(orders=terms, mode=self.mode)
        size = size_violations(self.mode, len(terms))
        found = size or [*symbol_violations(group), *pair_violations(group)]
        if found:
            named = MEMBER.sub
            raise ValidationError(
                "the group contradicts itself",
                [replace(item, limit=named(lambda at: self.orders[int(at[1])].name, item.limit)) for item in found],
            )
        return self


class MetadataForm(Form):
    """Name, owner and labels."""

    name: Name
    owner: Short = ""
    labels: dict[Short, Short] = {}


class DocumentForm(Form):
    """A manifest of either kind."""

    api_version: Annotated[str, one_of((API_VERSION,))] = Field(alias="apiVersion")
    kind: Annotated[str, one_of(("Order", "OrderGroup"))]
    metadata: MetadataForm
    spec: Any


class OrderDocument(DocumentForm):
    spec: OrderForm


class GroupDocument(DocumentForm):
    spec: GroupForm


KINDS: dict[str, type[DocumentForm]] = {"Order": OrderDocument, "OrderGroup": GroupDocument}


def manifest_of(document: Document, taken: dict[str, str]) -> Manifest | None:
    """Return a document's manifest, or None and add problems; `taken` has the names used before, and where."""
    take_names(document, taken)
    kind = document.values.get("kind")
    form = KINDS.get(kind, DocumentForm) if isinstance(kind, str) else DocumentForm
    try:
        read = form.model_validate(document.root)
    except pydantic.ValidationError as problem:
        for error in problem.errors(include_url=False):
            add_problem(document, form, error)
        return None
    if document.problems:
        return None
    common: dict[str, Any] = {"owner": read.metadata.owner, "labels": dict(sorted(read.metadata.labels.items()))}
    common["where"] = document.where
    if isinstance(read.spec, OrderForm):
        return order_manifest(read.spec, read.metadata.name, "spec", common)
    assert isinstance(read.spec, GroupForm), "there are two kinds"
    orders = [
        order_manifest(order, order.name, f"spec.orders[{at}]", common) for at, order in enumerate(read.spec.orders)
    ]
    return GroupManifest(name=read.metadata.name, mode=read.spec.mode, orders=tuple(orders), **common)


def order_manifest(order: OrderForm, name: str, path: str, common: dict[str, Any]) -> OrderManifest:
    policy = order.on_unsolicited_cancel
    return OrderManifest(name=name, terms=order, on_unsolicited_cancel=policy, path=path, **common)


def take_names(document: Document, taken: dict[str, str]) -> None:
    listed = document.values.get("spec.orders")
    count = len(listed) if isinstance(listed, list) else 0
    for path in ("metadata.name", *(f"spec.orders[{at}].name" for at in range(count))):
        name = document.values.get(path)
        if not isinstance(name, str) or not re.fullmatch(INTENT_ID_PATTERN, name):
            continue
        if before := taken.get(name):
            text = "{field} {value} is already used in {limit}"
            remedy = "choose another: it is the order's id"
            document.problem(path, "name", before, value_text(name), remedy, text=text)
            continue
        taken[name] = document.where
        if path == "metadata.name":
            document.name = f"{document.values.get('kind') or 'document'} {name}"


def add_problem(document: Document, form: type[DocumentForm], error: ErrorDetails) -> None:
    """Add one of pydantic's errors to the document's problems."""
    path = ""
    for part in error["loc"]:
        path = path if part == "[key]" else joined(path, part)
    value, context = value_text(document.values.get(path)), error.get("ctx", {})
    match error["type"]:
        case "manifest":
            document.problem(path, context["constraint"], context["limit"], value, context["remedy"])
        case "missing":
            document.problem(path, "presence", "required", "", "write it", text="{field} is {limit}")
        case "extra_forbidden":
            known, key = field_names(form_at(form, error["loc"][:-1])), str(error["loc"][-1])
            text = "{field} is not a known field; known fields: {limit}"
            document.problem(path, "field", ", ".join(known), key, near_miss(key, known), text=text)
        case "value_error":
            add_contradictions(document, path, context["error"].violations)
        case "list_type":
            document.problem(path, "type", "a list of orders", value, "begin each order with a dash")
        case "dict_type":
            document.problem(path, "type", "a mapping of texts", value, "write labels as {key: value}")
        case _:
            fields = ", ".join(field_names(form_at(form, error["loc"])))
            document.problem(path, "type", "a mapping", value, f"its fields are {fields}")


def add_contradictions(document: Document, path: str, found: Iterable[Violation]) -> None:
    """Add the contradictions of an order or a group to the document's problems."""
    for item in found:
        here = f"{path}.{'expire_at' if item.field == 'expire_at_ns' else item.field}"
        if item.constraint in GROUP_REMEDIES:
            remedy = GROUP_REMEDIES[item.constraint]
            document.problem(here, item.constraint, item.limit, item.value, remedy, text=item.text)
            continue
        written = document.values.get(here)
        value = item.value if item.constraint == "combination" else value_text(written)
        remedy, text = f"correct {here}", item.text
        if item.constraint == "presence":
            remedy = "write it" if written is None else "remove it"
        elif item.constraint != "combination":
            text = MUST_BE
        document.problem(here, item.constraint, item.limit, value, remedy, text=text)


def form_at(form: type[DocumentForm], loc: tuple[int | str, ...]) -> type[Form]:
    if not loc or loc[0] == "metadata":
        return MetadataForm if loc else form
    return OrderForm if form is OrderDocument else MemberForm if len(loc) > 2 else GroupForm


def instant_ns_of(text: str) -> int | None:
    """An RFC 3339 instant in Unix nanoseconds, exactly; None if it is not one."""
    found = RFC_3339.fullmatch(text)
    if found is None:
        return None
    day, time, fraction, zone = found.groups()
    try:
        second = datetime.fromisoformat(f"{day}T{time}{'+00:00' if zone in 'Zz' else zone}")
        instant_ns = int(second.timestamp()) * NS_PER_S + int((fraction or "0").ljust(9, "0"))
    except (ValueError, OverflowError):
        return None
    return instant_ns if 0 <= instant_ns <= INSTANT_NS_MAX else None


def near_miss(given: str, known: Sequence[str]) -> str:
    by_lower = {word.lower(): word for word in known}
    close = difflib.get_close_matches(given.lower()[:64], list(by_lower), n=1)
    return f"did you mean {by_lower[close[0]]}?" if close else "write one of these"


def unscaled(terms: OrderForm) -> StandardOrder:
    """Terms as an order with decimals as numbers, for comparisons only."""
    numbers = {name: Decimal(text) for name in DECIMALS if (text := getattr(terms, name)) is not None}
    others = {name: getattr(terms, name) for name in StandardOrder.__struct_fields__ if name not in DECIMALS}
    return StandardOrder(**{**others, **numbers})


def standard_order(manifest: OrderManifest, symbol: SymbolMetadata) -> StandardOrder:
    """Return the order at its symbol's scales. Raises `ValidationError` for numbers with more places."""
    problems: list[ManifestProblem] = []
    values = {name: getattr(manifest.terms, name) for name in StandardOrder.__struct_fields__}
    for name, is_quantity in DECIMALS.items():
        convert = symbol.quantity_from_decimal if is_quantity else symbol.price_from_decimal
        try:
            values[name] = None if values[name] is None else convert(values[name])
        except ValidationError as problem:
            problems += [problem_of(manifest, replace(item, field=name)) for item in problem.violations]
    if problems:
        raise ValidationError(f"order {manifest.name} violates the constraints of {symbol.symbol_id}", problems)
    return StandardOrder.checked(**values)


def market_problems(
    manifest: OrderManifest, order: StandardOrder, symbol: SymbolMetadata, *, open_orders: int = 0
) -> list[ManifestProblem]:
    return [problem_of(manifest, item) for item in symbol.violations(order, open_orders=open_orders)]


def problem_of(manifest: OrderManifest, item: Violation, remedy: str = "change the manifest") -> ManifestProblem:
    """A problem of an order that depends on its symbol or on the log."""
    where = f"{manifest.where} (Order {manifest.name})"
    field = f"{manifest.path}.{item.field}"
    return ManifestProblem(field, item.constraint, item.limit, item.value, item.text, where, remedy)

"""Manifests: orders and groups as files, read strictly and checked as far as that goes without a market.

Called by the CLI's `apply` and `diff`, and by whoever keeps orders in files. Promises that every problem of every document
is told, each with its file, document, field, limit, value and what to do, and that what comes out contradicts neither
itself nor its neighbours. Decimals stay the text they were written as: their scale is the market's, which `applying` asks.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

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
from replay.manifest_text import Ambiguous, Document, Node, Problem, documents, shown

API_VERSION = "exchange-kernel/v1"
ORDER_FIELDS = (
    "symbol_id", "side", "order_type", "quantity", "price", "stop_price", "time_in_force", "expire_at", "post_only",
    "reduce_only", "display_quantity", "on_unsolicited_cancel",
)  # fmt: skip
DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{1,18})?")
RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
SYMBOL = re.compile(r"[!-~]{1,64}")
OWNER_LENGTH_MAX = 128
LABEL_LENGTH_MAX = 128
INSTANT_NS_MAX = 2**63 - 1
MEMBER = re.compile(r"orders\[(\d+)\]")
"""One of a group's orders, in the kernel's words."""
GROUP_REMEDIES = {
    "size": "write as many; of ONE_TRIGGERS_OTHER the first order is the parent, its children stand after it",
    "symbol": "orders that fill instead of each other are of one symbol",
    "side": "a stop stands on the other side of the market than the limit of its side",
}
STDIN = "-"

Word = TypeVar("Word", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTerms:
    """An order as a manifest has it: `StandardOrder` with decimals as text."""

    symbol_id: str
    side: Side
    order_type: OrderType
    quantity: str
    price: str | None = None
    stop_price: str | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    expire_at_ns: int | None = None
    post_only: bool = False
    reduce_only: bool = False
    display_quantity: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderManifest:
    """An order by its name. A group's members have the group's owner and labels."""

    name: str
    terms: OrderTerms
    owner: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    on_unsolicited_cancel: UnsolicitedCancelPolicy = UnsolicitedCancelPolicy.STOP
    where: str = ""
    """File and document it comes from."""
    path: str = "spec"
    """Where its terms stand in the document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupManifest:
    """Orders that depend on each other."""

    name: str
    mode: OcoMode
    orders: tuple[OrderManifest, ...]
    owner: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    where: str = ""


Manifest = OrderManifest | GroupManifest


def orders_of(manifest: Manifest) -> tuple[OrderManifest, ...]:
    """Every order of a manifest."""
    return (manifest,) if isinstance(manifest, OrderManifest) else manifest.orders


def read_manifests(files: Sequence[str | Path], *, stdin: Callable[[], bytes] | None = None) -> tuple[Manifest, ...]:
    """The manifests of files (`-` is stdin), in their order.

    Raises `NotFoundError` for a file that can't be read, `ValidationError` with every problem of all the others.
    """
    return parse_manifests([(file_name(file), content_of(str(file), stdin)) for file in dict.fromkeys(map(str, files))])


def file_name(file: str | Path) -> str:
    return "stdin" if str(file) == STDIN else str(file)


def content_of(file: str, stdin: Callable[[], bytes] | None) -> bytes:
    if file == STDIN:
        return (stdin or sys.stdin.buffer.read)()
    try:
        return Path(file).read_bytes()
    except (OSError, ValueError) as problem:
        said = getattr(problem, "strerror", None) or str(problem)
        raise NotFoundError(f"the manifest {file} can't be read: {said}; -f takes files, and - for stdin") from problem


def parse_manifests(contents: Iterable[tuple[str, bytes]]) -> tuple[Manifest, ...]:
    """The manifests of files given by name and content. Raises `ValidationError` with every problem of all of them."""
    problems: list[Problem] = []
    found: list[Manifest] = []
    taken: dict[str, str] = {}
    names = []
    for name, content in contents:
        names.append(name)
        for document in documents(name, content):
            manifest = ManifestReader(document, taken).manifest() if document.root.value is not None else None
            problems += document.problems
            if manifest is not None:
                found.append(manifest)
    if problems:
        raise ValidationError(f"the manifests are not valid, nothing was applied ({len(problems)} problems)", problems)
    if not found:
        raise ValidationError(f"there is no manifest in {', '.join(names) or 'no file'}: write at least one document")
    return tuple(found)


class ManifestReader:
    """One document made into a manifest; what is wrong goes to the document's problems."""

    def __init__(self, document: Document, taken: dict[str, str]) -> None:
        """`taken` has the names of the documents before, and where each was used."""
        self._document = document
        self._taken = taken
        self._where = f"{document.file}, document {document.number}"

    def manifest(self) -> Manifest | None:
        """The manifest; None when something is wrong with it."""
        root = self._mapping(self._document.root, "", ("apiVersion", "kind", "metadata", "spec"))
        if root is None:
            return None
        self._literal(root, "apiVersion", (API_VERSION,))
        kind = self._literal(root, "kind", ("Order", "OrderGroup"))
        metadata = self._mapping(self._required(root, "metadata", ""), "metadata", ("name", "owner", "labels")) or {}
        name = self._name(metadata, "metadata")
        if name:
            self._document.name = f"{kind or 'document'} {name}"
        owner, labels = self._owner(metadata), self._labels(metadata)
        spec = self._required(root, "spec", "")
        made: Manifest | None = None
        if kind == "Order":
            made = self._order(spec, name, owner, labels)
        elif kind == "OrderGroup":
            made = self._group(spec, name, owner, labels)
        return None if self._document.problems else made

    # ------------------------------------------------------------------------------------------------------- orders
    def _order(self, spec: Node, name: str, owner: str, labels: dict[str, str]) -> OrderManifest | None:
        fields = self._mapping(spec, "spec", ORDER_FIELDS)
        return None if fields is None else self._order_of(fields, "spec", name, owner, labels)

    def _order_of(
        self, fields: dict[str, Node], path: str, name: str, owner: str, labels: dict[str, str]
    ) -> OrderManifest | None:
        before = len(self._document.problems)
        policy = self._word(fields, "on_unsolicited_cancel", path, UnsolicitedCancelPolicy)
        terms = OrderTerms(
            symbol_id=self._symbol(fields, path),
            side=self._word(fields, "side", path, Side, required=True) or Side.BUY,
            order_type=self._word(fields, "order_type", path, OrderType, required=True) or OrderType.MARKET,
            quantity=self._decimal(fields, "quantity", path, required=True) or "0",
            price=self._decimal(fields, "price", path),
            stop_price=self._decimal(fields, "stop_price", path),
            time_in_force=self._word(fields, "time_in_force", path, TimeInForce) or TimeInForce.GTC,
            expire_at_ns=self._instant(fields, "expire_at", path),
            post_only=self._flag(fields, "post_only", path),
            reduce_only=self._flag(fields, "reduce_only", path),
            display_quantity=self._decimal(fields, "display_quantity", path),
        )
        if len(self._document.problems) > before:
            return None
        self._check_terms(terms, fields, path)
        return OrderManifest(
            name=name, terms=terms, owner=owner, labels=labels, where=self._where, path=path,
            on_unsolicited_cancel=policy or UnsolicitedCancelPolicy.STOP,
        )  # fmt: skip

    def _check_terms(self, terms: OrderTerms, fields: dict[str, Node], path: str) -> None:
        """What is wrong with an order whatever its market is: the kernel's own rules, on decimals."""
        for item in order_inconsistencies(unscaled(terms)):
            name = "expire_at" if item.field == "expire_at_ns" else item.field
            given = fields.get(name, Node("nothing"))
            value = item.value if item.constraint == "combination" else shown(given) if name in fields else "nothing"
            limit = "more than 0" if item.constraint == "minimum" else item.limit
            remedy = "take it away" if limit.startswith("not allowed") else f"mend {path}.{name}"
            self._document.problem(f"{path}.{name}", item.constraint, limit, value, remedy, line=given.line)

    # ------------------------------------------------------------------------------------------------------- groups
    def _group(self, spec: Node, name: str, owner: str, labels: dict[str, str]) -> GroupManifest | None:
        fields = self._mapping(spec, "spec", ("mode", "orders"))
        if fields is None:
            return None
        mode = self._word(fields, "mode", "spec", OcoMode, required=True)
        listed = self._required(fields, "orders", "spec")
        if listed.value is None:
            return None
        if not isinstance(listed.value, list):
            self._problem(listed, "spec.orders", "type", "a list of orders", "begin each order with a dash")
            return None
        orders = [self._member(item, f"spec.orders[{index}]", owner, labels) for index, item in enumerate(listed.value)]
        made = tuple(order for order in orders if order is not None)
        if mode is not None:
            self._check_group(listed, mode, len(orders), made)
        return GroupManifest(
            name=name, mode=mode or OcoMode.NONE, orders=made, owner=owner, labels=labels, where=self._where
        )

    def _member(self, item: Node, path: str, owner: str, labels: dict[str, str]) -> OrderManifest | None:
        fields = self._mapping(item, path, ("name", *ORDER_FIELDS))
        if fields is None:
            return None
        return self._order_of(fields, path, self._name(fields, path), owner, labels)

    def _check_group(self, listed: Node, mode: OcoMode, count: int, orders: Sequence[OrderManifest]) -> None:
        """What is wrong with a group whatever its market is: the kernel's own rules, on decimals. What its orders are to
        each other is looked at once each of them is right."""
        found = size_violations(mode, count)
        if orders and not self._document.problems:
            terms = tuple(unscaled(order.terms) for order in orders)
            group = StandardOrderGroup.model_construct(orders=terms, mode=mode)
            found += [*symbol_violations(group), *pair_violations(group)]
        for item in found:
            path = MEMBER.sub(lambda index: orders[int(index[1])].path.removeprefix("spec."), item.field)
            limit = MEMBER.sub(lambda index: orders[int(index[1])].name, item.limit)
            remedy = GROUP_REMEDIES[item.constraint]
            self._problem(listed, f"spec.{path}", item.constraint, limit, remedy, value=item.value)

    # ------------------------------------------------------------------------------------------------------- values
    def _problem(
        self, node: Node, path: str, constraint: str, limit: str, remedy: str, *, value: str | None = None
    ) -> None:
        self._document.problem(path, constraint, limit, node if value is None else value, remedy, line=node.line)

    def _mapping(self, node: Node, path: str, known: Sequence[str]) -> dict[str, Node] | None:
        """The fields of a mapping that hold something; unknown ones are problems."""
        if node.value is None and path:
            return None
        if not isinstance(node.value, dict):
            self._problem(node, path, "type", "a mapping", f"its fields are {', '.join(known)}")
            return None
        for key, item in node.value.items():
            if key not in known:
                here = f"{path}.{key}" if path else key
                self._problem(item, here, "field", f"one of {', '.join(known)}", near_miss(key, known), value=key)
        return {key: item for key, item in node.value.items() if key in known and item.value is not None}

    def _required(self, fields: dict[str, Node], name: str, path: str) -> Node:
        """A field; that it is missing is a problem, and an empty node."""
        if name not in fields:
            here = f"{path}.{name}" if path else name
            self._document.problem(here, "presence", "required", "nothing", "write it")
        return fields.get(name, Node(None))

    def _text(self, fields: dict[str, Node], name: str, path: str, *, required: bool = False) -> str | None:
        node = self._required(fields, name, path) if required else fields.get(name, Node(None))
        if node.value is None or isinstance(node.value, str):
            return node.value
        remedy = f'write it in quotes, "{shown(node)}"' if is_scalar(node) else "write one text"
        self._problem(node, f"{path}.{name}", "type", "text", remedy)
        return None

    def _matching(
        self, fields: dict[str, Node], name: str, path: str, pattern: str, limit: str, *, required: bool
    ) -> str:
        text = self._text(fields, name, path, required=required)
        if text is None or re.fullmatch(pattern, text):
            return text or ""
        self._problem(fields[name], f"{path}.{name}", "form", limit, "write another")
        return ""

    def _name(self, fields: dict[str, Node], path: str) -> str:
        """A name that nothing else has: it is the intent's id."""
        limit = "a letter or digit, then up to 63 letters, digits, '.', '_', '-'"
        name = self._matching(fields, "name", path, INTENT_ID_PATTERN.strip("^$"), limit, required=True)
        if name and (before := self._taken.get(name)):
            limit = f"used once, and {before} has it"
            self._problem(fields["name"], f"{path}.name", "name", limit, "choose another: it is the order's id")
        elif name:
            self._taken[name] = self._where
        return name

    def _owner(self, fields: dict[str, Node]) -> str:
        owner = self._text(fields, "owner", "metadata") or ""
        if len(owner) > OWNER_LENGTH_MAX:
            limit = f"at most {OWNER_LENGTH_MAX} characters"
            self._problem(fields["owner"], "metadata.owner", "length", limit, "shorten it", value=f"{len(owner)}")
        return owner

    def _labels(self, fields: dict[str, Node]) -> dict[str, str]:
        node = fields.get("labels", Node({}))
        if not isinstance(node.value, dict):
            self._problem(node, "metadata.labels", "type", "a mapping of texts", "write labels as {key: value}")
            return {}
        labels = {key: self._text(node.value, key, "metadata.labels") or "" for key in node.value}
        for key, value in labels.items():
            if max(len(key), len(value)) > LABEL_LENGTH_MAX:
                limit = f"at most {LABEL_LENGTH_MAX} characters"
                self._problem(node.value[key], f"metadata.labels.{key[:20]}", "length", limit, "shorten it")
        return dict(sorted(labels.items()))

    def _symbol(self, fields: dict[str, Node], path: str) -> str:
        limit = "1 to 64 printable ASCII characters without a space"
        return self._matching(fields, "symbol_id", path, SYMBOL.pattern, limit, required=True)

    def _literal(self, fields: dict[str, Node], name: str, words: Sequence[str]) -> str:
        """One of a few words."""
        text = self._text(fields, name, "", required=True)
        if text is None or text in words:
            return text or ""
        self._problem(fields[name], name, "value", one_of(words), near_miss(text, words))
        return ""

    def _word(
        self, fields: dict[str, Node], name: str, path: str, words: type[Word], *, required: bool = False
    ) -> Word | None:
        text = self._text(fields, name, path, required=required)
        if text is None or text in {*words}:
            return None if text is None else words(text)
        choices = [word.value for word in words]
        self._problem(fields[name], f"{path}.{name}", "value", one_of(choices), near_miss(text, choices))
        return None

    def _flag(self, fields: dict[str, Node], name: str, path: str) -> bool:
        node = fields.get(name, Node(False))
        if isinstance(node.value, bool):
            return node.value
        self._problem(node, f"{path}.{name}", "type", "true or false", "write true or false, without quotes")
        return False

    def _decimal(self, fields: dict[str, Node], name: str, path: str, *, required: bool = False) -> str | None:
        """A decimal as text; an integer may stand without quotes, since it can't be misread."""
        node = self._required(fields, name, path) if required else fields.get(name, Node(None))
        value = str(node.value) if type(node.value) is int else node.value
        if value is None or (isinstance(value, str) and DECIMAL.fullmatch(value)):
            return value
        if isinstance(value, Ambiguous):
            self._problem(node, f"{path}.{name}", "type", "decimal text", f'write it in quotes, "{shown(node)}"')
        else:
            limit = "a decimal as text, not negative, without an exponent, at most 20 digits and 18 places"
            self._problem(node, f"{path}.{name}", "form", limit, 'write it like "0.0015"')
        return None

    def _instant(self, fields: dict[str, Node], name: str, path: str) -> int | None:
        text = self._text(fields, name, path)
        if text is None:
            return None
        instant_ns = instant_ns_of(text)
        if instant_ns is None:
            limit = "an RFC 3339 instant with its zone, from 1970 to 2262"
            self._problem(fields[name], f"{path}.{name}", "form", limit, 'write it like "2030-01-31T16:00:00Z"')
        return instant_ns


def instant_ns_of(text: str) -> int | None:
    """An RFC 3339 instant in Unix nanoseconds, exactly; None for what is none."""
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


def is_scalar(node: Node) -> bool:
    return not isinstance(node.value, dict | list)


def one_of(words: Iterable[str]) -> str:
    return "one of " + ", ".join(words)


def near_miss(given: str, known: Sequence[str]) -> str:
    """What was meant, where that can be guessed."""
    by_lower = {word.lower(): word for word in known}
    close = difflib.get_close_matches(given.lower()[:64], list(by_lower), n=1)
    return f"did you mean {by_lower[close[0]]}?" if close else "write one of these"


def unscaled(terms: OrderTerms) -> StandardOrder:
    """Terms as an order whose numbers are decimals: good for comparisons, and for nothing else."""
    numbers = {name: Decimal(text) for name in DECIMALS if (text := getattr(terms, name)) is not None}
    others = {name: getattr(terms, name) for name in StandardOrder.model_fields if name not in DECIMALS}
    return StandardOrder.model_construct(**{**others, **numbers})


DECIMALS = {"quantity": True, "price": False, "stop_price": False, "display_quantity": True}
"""The decimal fields of an order, and which of them count quantity."""


def standard_order(manifest: OrderManifest, symbol: SymbolMetadata) -> StandardOrder:
    """The order at its symbol's scales. Raises `ValidationError` for numbers with more places than those."""
    problems: list[Problem] = []
    values = {name: getattr(manifest.terms, name) for name in StandardOrder.model_fields}
    for name, is_quantity in DECIMALS.items():
        convert = symbol.quantity_from_decimal if is_quantity else symbol.price_from_decimal
        try:
            values[name] = None if values[name] is None else convert(values[name])
        except ValidationError as problem:
            problems += [problem_of(manifest, replace(item, field=name)) for item in problem.violations]
    if problems:
        raise ValidationError(f"order {manifest.name} does not fit the market {symbol.symbol_id}", problems)
    return StandardOrder(**values)


def market_problems(
    manifest: OrderManifest, order: StandardOrder, symbol: SymbolMetadata, *, open_orders: int = 0
) -> list[Problem]:
    """What the market has against an order."""
    return [problem_of(manifest, item) for item in symbol.violations(order, open_orders=open_orders)]


def problem_of(manifest: OrderManifest, item: Violation, remedy: str = "change the manifest") -> Problem:
    """A problem of an order that only its market, or the log, can tell."""
    where = f"{manifest.where} (Order {manifest.name})"
    return Problem(f"{manifest.path}.{item.field}", item.constraint, item.limit, item.value, where, remedy)

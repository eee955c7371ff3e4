"""Damaged inputs for all fuzz tests: JSON values of every kind, changes to a JSON value, damaged bytes."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

Test = TypeVar("Test", bound=Callable[..., Any])

EXAMPLES_VARIABLE = "KERNEL_FUZZ_EXAMPLES"
ODD_NUMBERS = (
    0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**70, -(2**70), 10**400, 0.0, -0.0, 0.5, 1.0, 1e16,
    1e308, float("inf"), float("-inf"), float("nan"),
)  # fmt: skip
ODD_TEXTS = (
    "", " ", "0", "1", "-1", "1.0", "1e3", "NaN", "Infinity", "null", "true", "\0", "\ud800", "a\ud800b", "\udfff", "Ω",
    "😀", "\u2028", "\ufeff", "a\nb", "x" * 300, "BTCUSDT", "intent:a", "BUY", "NEW", "../..", "{}", "[]", '"', "\\",
)  # fmt: skip


def fuzzed(examples: int) -> Callable[[Test], Test]:
    """The number of examples (or that of the environment), the same in each run, without a deadline."""
    count = int(os.environ.get(EXAMPLES_VARIABLE, examples))
    return settings(
        max_examples=count, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )


odd_scalars = st.one_of(
    st.none(), st.booleans(), st.sampled_from(ODD_NUMBERS), st.integers(), st.floats(), st.sampled_from(ODD_TEXTS),
    st.text(st.characters(codec=None), max_size=8),
)  # fmt: skip
json_values: st.SearchStrategy[Any] = st.recursive(
    odd_scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(ODD_TEXTS), inner, max_size=3),
    max_leaves=8,
)


def deep(levels: int, *, of: str = "[]") -> str:
    """JSON text of nested arrays or objects."""
    return "[" * levels + "]" * levels if of == "[]" else '{"a":' * levels + "1" + "}" * levels


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with one to three places dropped, replaced, extended or repeated."""
    made = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        made = _changed_once(draw, made)
    return made


def _changed_once(draw: st.DrawFn, value: Any) -> Any:
    places = [*_places(value)]
    if not places:
        return draw(json_values)
    where = draw(st.sampled_from(places))
    holder, key = where
    match draw(st.sampled_from(("drop", "replace", "replace", "replace", "rename", "swap"))):
        case "drop":
            del holder[key]
        case "rename" if isinstance(holder, dict):
            holder[draw(st.sampled_from(ODD_TEXTS))] = holder.pop(key)
        case "swap":
            other_holder, other_key = draw(st.sampled_from(places))
            holder[key] = copy.deepcopy(other_holder[other_key])
        case _:
            holder[key] = draw(json_values)
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((value, key), *_places(value[key]))]


def text_of(value: Any) -> str:
    """JSON as the standard library writes it: lone surrogates as escapes, NaN and infinities as words."""
    return json.dumps(value, separators=(",", ":"))


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes with one to three flips, cuts, insertions or repetitions."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(("flip", "flip", "cut", "end", "insert", "repeat"))):
            case "flip" if at < len(data):
                data = data[:at] + bytes([data[at] ^ draw(st.integers(1, 255))]) + data[at + 1 :]
            case "cut":
                data = data[:at] + data[at + draw(st.integers(1, 16)) :]
            case "end":
                data = data[:at]
            case "repeat":
                data = data[: at + draw(st.integers(1, 64))] + data[at:]
            case _:
                data = data[:at] + draw(st.binary(min_size=1, max_size=4)) + data[at:]
    return data

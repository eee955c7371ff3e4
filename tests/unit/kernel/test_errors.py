"""The tree of errors is the one that its module draws, and each error says what it must."""

from __future__ import annotations

import inspect
import re

import pytest

from kernel import errors
from kernel.errors import (
    BusyError,
    ConflictError,
    ExchangeError,
    FencedError,
    IntegrityError,
    KernelError,
    NotFoundError,
    NotReadyError,
    OutcomeUnknown,
    Rejected,
    SchemaError,
    ValidationError,
    Violation,
)

LINE = re.compile(r"^ {4}(?P<lead>[│ ]*)(?:[├└]── )?(?P<name>[A-Z]\w+) +(?P<code>\d)  +(?P<text>.+)$")


def drawn() -> dict[str, tuple[str, int, str]]:
    """The docstring's tree: class → parent, exit code, words."""
    found: dict[str, tuple[str, int, str]] = {}
    path: list[str] = []
    for line in (inspect.getdoc(errors) or "").splitlines():
        match = LINE.match(line)
        if match is None:
            continue
        depth = line[4:].index(match["name"]) // 4
        path = [*path[:depth], match["name"]]
        parent = path[depth - 1] if depth else "Exception"
        found[match["name"]] = (parent, int(match["code"]), match["text"])
    return found


def classes() -> dict[str, type[KernelError]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, KernelError)
    }


def test_the_drawn_tree_is_the_real_one() -> None:
    """Every error is in the drawing, under its own parent, with its own exit code, and nothing else is."""
    real = {name: (cls.__mro__[1].__name__, cls.exit_code) for name, cls in classes().items()}
    assert {name: (parent, code) for name, (parent, code, _) in drawn().items()} == real


@pytest.mark.parametrize("builtin", [KeyError, ValueError, TimeoutError])
def test_errors_are_also_what_python_calls_them(builtin: type[Exception]) -> None:
    """An error that is also a built-in one says so in the drawing, and the other way round."""
    said = {name for name, (_, _, text) in drawn().items() if f"({builtin.__name__})" in text}
    assert {name for name, cls in classes().items() if issubclass(cls, builtin)} == said


def test_every_error_has_a_docstring() -> None:
    """Each says what it means."""
    assert all(cls.__doc__ for cls in classes().values())


def test_messages_read_as_they_are() -> None:
    """A `KeyError` would quote its message; ours are plain, and an error without one has its name."""
    assert str(NotFoundError("intent a not found")) == "intent a not found"
    assert str(NotFoundError()) == "NotFoundError"


def test_validation_lists_every_violation() -> None:
    """The message is a sentence for each broken rule, after the subject where there is one."""
    tick = Violation("price", "tick_size", "0.01", "0.005", "{field} {value} is not a multiple of {limit}")
    error = ValidationError("order a", [tick, Violation("wait", "wait", "`ack`", "x\n{limit}")])
    assert str(error) == "order a: price 0.005 is not a multiple of 0.01; wait `x\\n{limit}`: must be `ack`"
    assert str(ValidationError(violations=[tick])) == str(tick)
    assert len(error.violations) == 2


def test_exchange_errors_carry_code_and_intent() -> None:
    """The venue's code and the intent are in the message and on the error."""
    error = ExchangeError("no funds", code="-2010", intent_id="a")
    assert (str(error), error.code, error.intent_id) == ("a: no funds (venue code -2010)", "-2010", "a")
    assert str(ExchangeError("no funds")) == "no funds"


def test_readiness_errors_name_what_is_missing() -> None:
    """The missing conditions are in the message and on the error; a full queue is one of them."""
    error = NotReadyError("can't act", missing=["LEASE_HELD", "NOT_PAUSED"])
    assert str(error) == "can't act (missing: LEASE_HELD, NOT_PAUSED)"
    assert error.missing == ("LEASE_HELD", "NOT_PAUSED")
    assert isinstance(BusyError("full"), NotReadyError)


def test_integrity_errors_name_the_position() -> None:
    """The first bad position leads the message."""
    error = SchemaError("unknown topic", position=7)
    assert (str(error), error.position) == ("position 7: unknown topic", 7)
    assert str(IntegrityError("no such log")) == "no such log"


def test_a_fenced_leader_is_told_both_epochs() -> None:
    """A deposed leader is told its epoch and the log's, by an error that no handler of conflicts catches."""
    error = FencedError(epoch=3, head_epoch=4)
    assert not isinstance(error, ConflictError)
    assert "epoch 3" in str(error)
    assert "epoch 4" in str(error)


def test_the_ports_errors_carry_what_the_venue_said() -> None:
    """`Rejected` may say when to try again, `OutcomeUnknown` whether the id was used before."""
    later, seen = Rejected("rate", code="-1003", retry_after_s=2.5), OutcomeUnknown("used", duplicate=True)
    assert (later.retry_after_s, str(later), seen.duplicate) == (2.5, "rate (venue code -1003)", True)
    assert OutcomeUnknown("timeout").duplicate is False

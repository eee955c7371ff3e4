"""The errors that this project raises on purpose, as one tree.

The CLI exits with `exit_code`, strategies catch by class, the reconciler tells the three venue errors apart. A message
names the thing, the value, the rule and the remedy.

    KernelError                      2   base of all
    ├── ValidationError              5   a command, record or setting breaks rules; lists all of them (ValueError)
    ├── NotFoundError                2   no such intent, order, symbol, asset or subscription (KeyError)
    ├── AlreadyExistsError           4   the id belongs to something else (ValueError)
    ├── ConflictError                4   the stream changed meanwhile; read again, then decide again
    ├── FencedError                  4   a newer leader was elected; this one must stop
    ├── ExchangeError                5   the venue rejected the order for good, or the command came too late
    ├── NotReadyError                6   conditions are missing; nothing was done
    │   ├── BusyError                6   a bounded queue is full; nothing was written
    │   └── LogUnavailableError      6   the log cannot be reached or written (disk full, database down)
    ├── WaitTimeoutError             3   a condition did not hold in time (TimeoutError)
    ├── IntegrityError               1   the log is not what was written; names the first bad position
    │   └── SchemaError              1   an event of a newer release, an unknown topic or another schema
    ├── UnsafeFileError              2   another user of the host owns or can write a file of the kernel
    └── VenueError                   2   base of the only errors that a venue port may raise
        ├── Rejected                 5   a definitive no; `retry_after_s` where a later try may succeed
        ├── NotSent                  6   the request provably never left
        └── OutcomeUnknown           6   the request may have happened: unknown is not no

The number is the process exit code. `orderctl help api` lists them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import msgspec


class KernelError(Exception):
    """Base of every error of this project."""

    exit_code: ClassVar[int] = 2

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else self.__class__.__name__


class Remedy(msgspec.Struct, frozen=True):
    """An entry of the runbook (`orderctl help runbook`): for a condition, a kind of finding or a kind of problem."""

    meaning: str
    look: str
    """Where to look: commands, metrics, logs."""
    do: str
    avoid: str
    """The action to avoid: an infinitive without "to"."""


class Violation(msgspec.Struct, frozen=True):
    """One broken rule. `str` is a sentence: "quantity 0.0000001 is not a multiple of the lot size 0.00001".

    Attributes:
        field: Dotted path of the field, as in `order.price`.
        constraint: Name of the rule, as in `tick_size`.
        limit: What the rule demands, as in `0.01`.
        value: The value given, as in `0.005`.
        text: The sentence, with the other attributes by name: "{field} {value} is not a multiple of {limit}".
    """

    field: str
    constraint: str
    limit: str
    value: str
    text: str = "{field} `{value}`: must be {limit}"

    def __str__(self) -> str:
        value = self.value if self.value.isprintable() else repr(self.value)[1:-1]
        return self.text.format(field=self.field, constraint=self.constraint, limit=self.limit, value=value)


class ValidationError(KernelError, ValueError):
    """A command, a record or a setting breaks rules; `violations` lists every broken rule.

    The text is `what` and the violations, or one of them where the other is not given.
    """

    exit_code = 5

    def __init__(self, what: str = "", violations: Iterable[Violation] = ()) -> None:
        self.what = what
        self.violations = tuple(violations)
        super().__init__(": ".join(filter(None, (what, "; ".join(map(str, self.violations))))))


class NotFoundError(KernelError, KeyError):
    """The named thing does not exist."""


class AlreadyExistsError(KernelError, ValueError):
    """The id belongs to something else."""

    exit_code = 4


class ConflictError(KernelError):
    """The stream changed meanwhile, or the state forbids the change: read again, then decide again."""

    exit_code = 4


class FencedError(KernelError):
    """A newer leader was elected: the writer must stop, reading again does not help.

    Attributes:
        epoch: The writer's epoch.
        head_epoch: The newest epoch in the log.
    """

    exit_code = 4

    def __init__(self, *, epoch: int, head_epoch: int) -> None:
        self.epoch = epoch
        self.head_epoch = head_epoch
        super().__init__(f"epoch {epoch} is over, the log is at epoch {head_epoch}: this leader was replaced")


class ExchangeError(KernelError):
    """The venue rejected an order for good, or the command came too late.

    Attributes:
        text: What the venue said.
        code: The venue's code, if it gave one.
        intent_id: The intent concerned.
    """

    exit_code = 5

    def __init__(self, text: str, *, code: str | None = None, intent_id: str | None = None) -> None:
        self.text = text
        self.code = code
        self.intent_id = intent_id
        super().__init__((f"{intent_id}: " if intent_id else "") + _with_code(text, code))


class NotReadyError(KernelError):
    """Conditions are missing, so nothing was done; `missing` names them."""

    exit_code = 6

    def __init__(self, text: str, *, missing: Iterable[str] = ()) -> None:
        self.missing = tuple(missing)
        super().__init__(text + (f" (missing: {', '.join(self.missing)})" if self.missing else ""))


class BusyError(NotReadyError):
    """A bounded queue is full: nothing was written, try again."""


class LogUnavailableError(NotReadyError):
    """The log cannot be read or written; nothing is known to be lost."""


class WaitTimeoutError(KernelError, TimeoutError):
    """A condition did not hold in time."""

    exit_code = 3


class IntegrityError(KernelError):
    """The log is not what was written; `position` is the first bad one, if known. Nothing is repaired silently."""

    exit_code = 1

    def __init__(self, text: str, *, position: int | None = None) -> None:
        self.position = position
        super().__init__(text if position is None else f"position {position}: {text}")


class SchemaError(IntegrityError):
    """An event is of a newer release or an unknown topic, or does not fit its schema."""


class UnsafeFileError(KernelError):
    """Another user of the host owns or can write a file or directory that the kernel would trust."""


class VenueError(KernelError):
    """Base of the three errors that a venue port may raise.

    Attributes:
        text: What the venue or the transport said.
        code: The venue's code, if it gave one.
    """

    def __init__(self, text: str, *, code: str | None = None) -> None:
        self.text = text
        self.code = code
        super().__init__(_with_code(text, code))


class Rejected(VenueError):
    """The venue definitively rejected this request.

    Attributes:
        retry_after_s: Seconds after which a later try may succeed (rate limit, trading halt), if the venue says so.
        rate_limit: Kind of the rate limit that is used up, if that is the reason; the request itself may be fine.
        timestamp: The request was refused for its timestamp: the clocks differ, the request itself may be fine. It is
            tried again after `retry_after_s`, by default a second.
    """

    exit_code = 5

    def __init__(
        self,
        text: str,
        *,
        code: str | None = None,
        retry_after_s: float | None = None,
        rate_limit: str | None = None,
        timestamp: bool = False,
    ) -> None:
        self.retry_after_s = 1.0 if timestamp and retry_after_s is None else retry_after_s
        self.timestamp = timestamp
        self.rate_limit = rate_limit
        super().__init__(text, code=code)


class NotSent(VenueError):
    """The request provably never left this process."""

    exit_code = 6


class OutcomeUnknown(VenueError):
    """The request may have happened: timeout, lost connection, 5xx, duplicate id.

    Attributes:
        duplicate: The venue refused the client order id as used before: an order with it exists or existed.
    """

    exit_code = 6

    def __init__(self, text: str, *, code: str | None = None, duplicate: bool = False) -> None:
        self.duplicate = duplicate
        super().__init__(text, code=code)


def _with_code(text: str, code: str | None) -> str:
    return f"{text} (venue code {code})" if code else text

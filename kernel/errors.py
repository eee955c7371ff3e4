"""Every error that this project raises on purpose, in one tree.

Raised everywhere, caught at the edges: the CLI maps `exit_code`, a strategy catches by kind, and the reconciler tells
the three venue errors apart. A message says what failed, the limit, the value given, and what to do.

    KernelError                      2   anything below
    ├── ValidationError              5   a command, a record or a setting breaks constraints; lists all of them (ValueError)
    ├── NotFoundError                2   no such intent, order, symbol, asset, subscription (KeyError)
    ├── AlreadyExistsError           4   the id is taken by something else (ValueError)
    ├── ConflictError                4   somebody wrote in between; read again, decide again
    ├── FencedError                  4   a newer leader was elected; this one must stop
    ├── ExchangeError                5   the venue refused for good, or it is too late
    ├── NotReadyError                6   the named conditions are missing; nothing was done
    │   ├── BusyError                6   a bounded queue is full; nothing was written
    │   └── LogUnavailableError      6   the log cannot be reached or written now (disk full, database down)
    ├── WaitTimeoutError             3   what was waited for did not happen in time (TimeoutError)
    ├── IntegrityError               1   the log is not what was written; names the first bad position
    │   └── SchemaError              1   an event newer than this code, of an unknown topic, or not of its schema
    ├── UnsafeFileError              2   another user of the host owns a file of ours, or can write it
    └── VenueError                   2   what a venue port may raise, and nothing else
        ├── Rejected                 5   a definitive no; `retry_after_s` where the venue says "later"
        ├── NotSent                  6   it provably never left
        └── OutcomeUnknown           6   it may have happened: unknown is not no

The number is the process exit code. `orderctl help api` lists them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple


class KernelError(Exception):
    """Base of every error of this project."""

    exit_code: ClassVar[int] = 2

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else self.__class__.__name__


class Remedy(NamedTuple):
    """An entry of the runbook (`orderctl help runbook`): for a condition, a kind of finding or a kind of problem."""

    meaning: str
    look: str
    """Where to look: commands, metrics, logs."""
    do: str
    avoid: str
    """What not to do: an infinitive without "to"."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One violated constraint: where, what was demanded, what was given."""

    field: str
    """Dotted path of the offending field, as in `order.price`."""
    constraint: str
    """Name of the constraint, as in `tick_size`."""
    limit: str
    """The limit, in words and numbers."""
    value: str
    """The value that was given."""

    def __str__(self) -> str:
        return f"{self.field}: {self.constraint} is {self.limit}, given {self.value}"


class ValidationError(KernelError, ValueError):
    """Constraints are violated; `violations` lists every one of them."""

    exit_code = 5

    def __init__(self, what: str, violations: Iterable[Violation] = ()) -> None:
        self.what = what
        self.violations = tuple(violations)
        super().__init__("; ".join([what, *map(str, self.violations)]))


class NotFoundError(KernelError, KeyError):
    """The thing named does not exist."""


class AlreadyExistsError(KernelError, ValueError):
    """The id is already taken by something that differs."""

    exit_code = 4


class ConflictError(KernelError):
    """The stream moved on, or the state forbids the change: read again, then decide again."""

    exit_code = 4


class FencedError(KernelError):
    """The log has seen a newer leader than the one that wrote this: reading again does not help, it must stop."""

    exit_code = 4

    def __init__(self, *, epoch: int, head_epoch: int) -> None:
        self.epoch = epoch
        self.head_epoch = head_epoch
        super().__init__(f"epoch {epoch} is over, the log is at epoch {head_epoch}: this leader was replaced")


class ExchangeError(KernelError):
    """The venue refused for good, or what was asked for came too late."""

    exit_code = 5

    def __init__(self, text: str, *, code: str | None = None, intent_id: str | None = None) -> None:
        self.text = text
        self.code = code
        self.intent_id = intent_id
        where = f"{intent_id}: " if intent_id else ""
        super().__init__(f"{where}{text}" + (f" (venue code {code})" if code else ""))


class NotReadyError(KernelError):
    """Conditions are missing, so nothing was done; `missing` names them."""

    exit_code = 6

    def __init__(self, text: str, *, missing: Iterable[str] = ()) -> None:
        self.missing = tuple(missing)
        super().__init__(text + (f" (missing: {', '.join(self.missing)})" if self.missing else ""))


class BusyError(NotReadyError):
    """A bounded queue is full: nothing was written, try again."""


class LogUnavailableError(NotReadyError):
    """The log cannot be read or written now; nothing is known to be lost."""


class WaitTimeoutError(KernelError, TimeoutError):
    """What was waited for did not happen within the time given."""

    exit_code = 3


class IntegrityError(KernelError):
    """The log does not hold what was written; nothing is repaired in silence."""

    exit_code = 1

    def __init__(self, text: str, *, position: int | None = None) -> None:
        self.position = position
        where = f"position {position}: " if position is not None else ""
        super().__init__(f"{where}{text}")


class SchemaError(IntegrityError):
    """An event is newer than this code, of an unknown topic, or does not fit its schema."""


class UnsafeFileError(KernelError):
    """Another user of the host owns a file or directory that the kernel would believe, or can write it."""


class VenueError(KernelError):
    """Base of the three errors that a venue port may raise."""

    def __init__(self, text: str, *, code: str | None = None) -> None:
        self.text = text
        self.code = code
        super().__init__(text + (f" (venue code {code})" if code else ""))


class Rejected(VenueError):
    """The venue said no, definitively, to this one request.

    `retry_after_s` is set where it says that a later try may succeed (rate limit, halt). `rate_limit` names the kind of
    rate limit that is used up, where that is why: it says nothing of the request itself.
    """

    exit_code = 5

    def __init__(
        self, text: str, *, code: str | None = None, retry_after_s: float | None = None, rate_limit: str | None = None
    ) -> None:
        self.retry_after_s = retry_after_s
        self.rate_limit = rate_limit
        super().__init__(text, code=code)


class NotSent(VenueError):
    """The request provably never left this process."""

    exit_code = 6


class OutcomeUnknown(VenueError):
    """No answer, or one that settles nothing (timeout, lost connection, 5xx, duplicate id): it may have happened.

    `duplicate` says that the venue refused the client order id as used before: an order under it exists or existed.
    """

    exit_code = 6

    def __init__(self, text: str, *, code: str | None = None, duplicate: bool = False) -> None:
        self.duplicate = duplicate
        super().__init__(text, code=code)

"""The gate that commands pass before they are appended: pre-trade limits, under all that this kernel has on its way.

Used by `CommandHandler`. What a command adds is held from the check until the state has it, with no suspension between the
check and the hold: of two commands at once only as many pass as fit, and appends still go out together. The limits are the
kernel's own and those that the newest leader recorded (`KernelStarted`), so that a kernel without settings keeps to them.

The bound across processes: each holds only its own commands. Until a command of another process was read from the log (a
poll or a notification later) it is not counted, so k processes may together exceed a limit by what k − 1 of them append
within that time; commands per second are counted by each kernel for itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pydantic

from kernel.clock import NS_PER_S, Clock
from kernel.errors import BusyError, ConflictError, ValidationError, Violation
from kernel.lifecycle import Command, ModifyIntent, PlaceOrder, Record
from kernel.limits import Change, Claim, LimitSettings, booked_qty, violations
from kernel.order_spec import SymbolMetadata
from kernel.state import KernelState

DOUBT_NS = 5 * NS_PER_S
"""How long a command stays held whose append ended without an answer: it may be in the log, and not be read yet."""


@dataclass(slots=True, eq=False)
class Hold:
    """What an admitted command adds, until the state has it."""

    intent_id: str
    version: int
    """Of the intent's stream when it was admitted: once it is another, the state knows."""
    added: Claim
    orders: int
    until_ns: int | None = None


class LimitGate:
    """Admits commands, or refuses them with every limit that they exceed."""

    def __init__(self, state: KernelState, *, clock: Clock, own: LimitSettings | None = None) -> None:
        self._state = state
        self._clock = clock
        self._own = own if own is not None and own.any else None
        self._read: tuple[Mapping[str, Any], LimitSettings | None] = ({}, None)
        """The limits as the log has them, and what they mean."""
        self._holds: dict[Hold, None] = {}
        self._sent: deque[tuple[int, str]] = deque()
        """Instant and symbol of each command of the last second."""

    @contextmanager
    def admitted(self, record: Record, command: Command) -> Iterator[None]:
        """Hold what a command adds while it is appended. Raises `ValidationError` when it is beyond a limit."""
        settings = self._settings() if isinstance(command, PlaceOrder | ModifyIntent) else []
        if not settings:
            yield
            return
        assert isinstance(command, PlaceOrder | ModifyIntent)
        change = self._change(record, command)
        self._check(record.intent_id, change, command.symbol, settings)
        hold = Hold(record.intent_id, record.version, change.added, orders=1 if change.claim is None else 0)
        sent = None if change.only_reduces else (self._clock.now_ns(), change.order.symbol_id)
        self._holds[hold] = None
        if sent is not None:
            self._sent.append(sent)
        try:
            yield
        except (ConflictError, BusyError):  # nothing was written
            self._holds.pop(hold, None)
            if sent is not None and sent in self._sent:
                self._sent.remove(sent)
            raise
        except BaseException:
            hold.until_ns = self._clock.now_ns() + DOUBT_NS
            raise
        self._holds.pop(hold, None)

    def _settings(self) -> list[LimitSettings]:
        """Whose limits hold. Raises `ValidationError` where those of the log are not understood."""
        given = self._state.recorded_limits
        if given is not self._read[0]:
            try:
                read = LimitSettings.model_validate(given)
            except pydantic.ValidationError as problem:
                raise ValidationError(
                    "the limits that the leader recorded are not understood: use the leader's version, or newer"
                ) from problem
            self._read = (given, read if read.any else None)
        recorded = self._read[1]
        return [item for item in (self._own, recorded if recorded != self._own else None) if item is not None]

    def _change(self, record: Record, command: PlaceOrder | ModifyIntent) -> Change:
        if isinstance(command, PlaceOrder):
            return Change(command.intent.order)
        assert record.intent is not None, "a change that was decided has something to change"
        claim = self._state.claim(record.intent_id, record.intent.order)
        known = record.intent.order if claim is not None else None  # what has ended adds all of itself
        return Change(command.order, booked_qty(record), known, claim)

    def _check(self, intent_id: str, change: Change, symbol: SymbolMetadata, settings: list[LimitSettings]) -> None:
        exposure = self._state.symbol_exposure(symbol.symbol_id)
        for hold in self._held(intent_id, symbol.symbol_id):
            exposure = exposure.plus(hold.added, orders=hold.orders)
        found: dict[str, Violation] = {}
        for item in settings:
            limits = item.of(symbol.symbol_id)
            exceeded = [*violations(limits, exposure, change, symbol), *self._too_many(item, change)]
            for violation in exceeded:
                found.setdefault(f"{violation.constraint} {violation.limit}", violation)
        if found:
            raise ValidationError(
                f"beyond the limits of {symbol.symbol_id} (ask for less, cancel something first, or raise the limits of the"
                " kernel that runs)",
                found.values(),
            )

    def _held(self, intent_id: str, symbol_id: str) -> list[Hold]:
        """What is on its way in a symbol and not in the state yet, but for other commands about the same intent: of those
        only one is appended."""
        now_ns = self._clock.now_ns()
        over = [
            hold
            for hold in self._holds
            if hold.version != self._state.record(hold.intent_id).version
            or (hold.until_ns is not None and not now_ns <= hold.until_ns <= now_ns + DOUBT_NS)
        ]
        for hold in over:
            del self._holds[hold]
        return [hold for hold in self._holds if hold.added.symbol_id == symbol_id and hold.intent_id != intent_id]

    def _too_many(self, settings: LimitSettings, change: Change) -> list[Violation]:
        """Whether there were too many commands in the last second, of all symbols or of this one."""
        if change.only_reduces:
            return []
        now_ns = self._clock.now_ns()
        if self._sent and self._sent[0][0] > now_ns:  # the clock was set back
            self._sent.clear()
        while self._sent and self._sent[0][0] <= now_ns - NS_PER_S:
            self._sent.popleft()
        symbol_id = change.order.symbol_id
        own = settings.symbols.get(symbol_id)
        counts = (
            ("of all symbols", settings.default.commands_per_s_max, len(self._sent)),
            (
                f"of {symbol_id}",
                own.commands_per_s_max if own is not None else None,
                sum(1 for _, item in self._sent if item == symbol_id),
            ),
        )
        return [
            Violation("command", "commands_per_s_max", f"{limit} {which}", f"one more than {count} in the last second")
            for which, limit, count in counts
            if limit is not None and count >= limit
        ]

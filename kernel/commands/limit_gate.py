"""Pre-trade limits of commands, checked before the append. Called by `CommandHandler`.

The risk that a command adds is reserved from the check until the state has it, so concurrent commands cannot exceed a limit
together. The limits are the kernel's own and those that the newest leader recorded (`KernelStarted`). Each process reserves
only its own commands: k processes may exceed a limit by what k − 1 of them append before the others read it from the log.
Commands per second are counted by each process.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import pydantic

from kernel.clock import NS_PER_S, Clock
from kernel.commands.place_group import PlaceGroup, quantities_at_risk
from kernel.errors import BusyError, ConflictError, ValidationError, Violation
from kernel.lifecycle.decide import IntentCommand, ModifyIntent, PlaceOrder
from kernel.lifecycle.record import Record
from kernel.limits import NOTHING, Exposure, OpenRisk, RiskChange, booked_qty, exceeded_limits, violations
from kernel.order_spec import OcoMode, StandardOrder, SymbolMetadata
from kernel.safety.limit_settings import UNLIMITED, Limits, LimitSettings
from kernel.state import KernelState

ProposedOrder = tuple[str, StandardOrder, SymbolMetadata]
"""Intent id, terms and symbol of an order that is not recorded yet."""
RESERVATION_TTL_NS = 5 * NS_PER_S
"""Life of a reservation whose append ended without an answer: the command may be in the log."""


@dataclass(slots=True, eq=False)
class Reservation:
    """The risk that an admitted command adds, until the state has it."""

    intent_id: str
    version: int
    """Version of the intent's stream at admission; once it differs, the state has the command."""
    added: OpenRisk
    orders: int
    until_ns: int | None = None


class Reservations:
    """All reservations, with their sum by symbol, so that a check takes constant time."""

    def __init__(self, state: KernelState, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._by_intent: dict[str, dict[Reservation, None]] = {}
        self._sums: dict[str, Exposure] = {}
        self._has_provisional = False
        self._swept_at = 0
        """Position of the state at the last sweep."""

    def add(self, reservation: Reservation) -> None:
        self._by_intent.setdefault(reservation.intent_id, {})[reservation] = None
        self._sum(reservation.added, reservation.orders)

    def drop(self, reservation: Reservation) -> None:
        held = self._by_intent.get(reservation.intent_id, {})
        if reservation not in held:
            return
        del held[reservation]
        if not held:
            del self._by_intent[reservation.intent_id]
        self._sum(reservation.added.negative(), -reservation.orders)

    def mark_provisional(self, reservation: Reservation) -> None:
        """Keep a reservation until the state has it, or for `RESERVATION_TTL_NS`."""
        reservation.until_ns = self._clock.now_ns() + RESERVATION_TTL_NS
        self._has_provisional = True

    def over(self, exposure: Exposure, symbol_id: str, *, but: str) -> Exposure:
        """Add the reservations of a symbol to an exposure, except those of one intent: its commands are alternatives."""
        self._sweep()
        if (held := self._sums.get(symbol_id)) is not None:
            exposure = exposure.with_all(held)
        for reservation in self._by_intent.get(but, ()):
            if reservation.added.symbol_id == symbol_id:
                exposure = exposure.plus(reservation.added.negative(), orders=-reservation.orders)
        return exposure

    def _sweep(self) -> None:
        """Remove reservations that the state has, and expired ones."""
        if self._state.position == self._swept_at and not self._has_provisional:
            return
        self._swept_at = self._state.position
        held = [reservation for reservations in self._by_intent.values() for reservation in reservations]
        for reservation in held:
            if self._is_over(reservation):
                self.drop(reservation)
        self._has_provisional = any(
            reservation.until_ns is not None
            for reservations in self._by_intent.values()
            for reservation in reservations
        )

    def _is_over(self, reservation: Reservation) -> bool:
        now_ns = self._clock.now_ns()
        if reservation.until_ns is not None and not now_ns <= reservation.until_ns <= now_ns + RESERVATION_TTL_NS:
            return True
        return reservation.version != self._state.record(reservation.intent_id).version

    def _sum(self, added: OpenRisk, orders: int) -> None:
        changed = self._sums.get(added.symbol_id, NOTHING).plus(added, orders=orders)
        self._sums[added.symbol_id] = changed
        if changed == NOTHING:
            del self._sums[added.symbol_id]


class CommandRate:
    """Counts the commands of the last second, in total and by symbol."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent: deque[tuple[int, str]] = deque()
        """Instant and symbol, oldest first."""
        self._by_symbol: Counter[str] = Counter()

    def add(self, symbol_id: str) -> tuple[int, str]:
        """Count a command; return the entry for `take_back`."""
        entry = (self._clock.now_ns(), symbol_id)
        self._sent.append(entry)
        self._by_symbol[symbol_id] += 1
        return entry

    def take_back(self, entry: tuple[int, str]) -> None:
        """Uncount a command that was not recorded."""
        if entry in self._sent:
            self._sent.remove(entry)
            self._by_symbol[entry[1]] -= 1

    def too_many(self, settings: LimitSettings, symbol_id: str) -> list[Violation]:
        """Return the limits that one more command would exceed."""
        self._forget()
        own = settings.symbols.get(symbol_id, UNLIMITED)
        counts = (
            ("for all symbols", settings.default.commands_per_s_max, len(self._sent)),
            (f"for {symbol_id}", own.commands_per_s_max, self._by_symbol[symbol_id]),
        )
        text = "{value} commands in the last second and {constraint} is {limit}"
        return [
            Violation("command", "commands_per_s_max", f"{limit} {which}", str(count), text)
            for which, limit, count in counts
            if limit is not None and count >= limit
        ]

    def _forget(self) -> None:
        now_ns = self._clock.now_ns()
        back = bool(self._sent) and self._sent[-1][0] > now_ns  # the clock was set back
        while self._sent and (back or self._sent[0][0] <= now_ns - NS_PER_S):
            _, symbol_id = self._sent.popleft()
            self._by_symbol[symbol_id] -= 1


class LimitGate:
    """Admits commands, or rejects them with every limit that they exceed."""

    def __init__(self, state: KernelState, *, clock: Clock, own: LimitSettings | None = None) -> None:
        self._state = state
        self._clock = clock
        self._own = own if own is not None and own.any else None
        self._read: tuple[Mapping[str, Any], LimitSettings | None] = ({}, None)
        """The recorded limits, raw and parsed."""
        self._reservations = Reservations(state, clock)
        self._command_rate = CommandRate(clock)

    def admitted(self, record: Record, command: IntentCommand) -> AbstractContextManager[None]:
        """Reserve the risk of a command while it is appended; `ValidationError` if it exceeds a limit."""
        if not isinstance(command, (PlaceOrder, ModifyIntent)) or not (settings := self.settings()):
            return nullcontext()
        change = self._change(record, command.intent.order if isinstance(command, PlaceOrder) else command.order)
        found = self._exceeded(record.intent_id, change, command.symbol, settings)
        if not change.only_reduces:
            found += [
                item for limits in settings for item in self._command_rate.too_many(limits, change.order.symbol_id)
            ]
        if found:
            raise beyond_limits(command.symbol.symbol_id, found)
        paced = [] if change.only_reduces else [change.order.symbol_id]
        return self._held([reservation_of(record, change)], paced)

    def admitted_group(self, command: PlaceGroup) -> AbstractContextManager[None]:
        """Reserve the risk of a group while it is appended; `ValidationError` if it exceeds a limit."""
        settings = self.settings()
        members = [(item.intent_id, item.order, command.symbols[item.order.symbol_id]) for item in command.intents]
        reservations: list[Reservation] = []
        found: list[Violation] = []
        for intent_id, change, symbol in group_changes(command.mode, members) if settings else ():
            found += self._exceeded(intent_id, change, symbol, settings, exceeded_limits)
            found += [item for limits in settings for item in self._command_rate.too_many(limits, symbol.symbol_id)]
            reservations.append(reservation_of(self._state.record(intent_id), change))
            self._reservations.add(reservations[-1])
        for reservation in reservations:
            self._reservations.drop(reservation)
        if found:
            raise beyond_limits(command.intents[0].order.symbol_id, found)
        return self._held(reservations, [command.intents[0].order.symbol_id] if settings else [])

    @contextmanager
    def _held(self, reservations: Sequence[Reservation], paced: Sequence[str]) -> Iterator[None]:
        for reservation in reservations:
            self._reservations.add(reservation)
        counted = [self._command_rate.add(symbol_id) for symbol_id in paced]
        try:
            yield
        except (ConflictError, BusyError):  # nothing was written
            for reservation in reservations:
                self._reservations.drop(reservation)
            for entry in counted:
                self._command_rate.take_back(entry)
            raise
        except BaseException:
            for reservation in reservations:
                self._reservations.mark_provisional(reservation)
            raise
        for reservation in reservations:
            self._reservations.drop(reservation)

    def settings(self) -> list[LimitSettings]:
        """Return the limits to enforce; `ValidationError` if the recorded ones cannot be read."""
        raw = self._state.recorded_limits
        if raw is not self._read[0]:
            try:
                read = LimitSettings.model_validate(raw)
            except pydantic.ValidationError as problem:
                raise ValidationError(
                    "the recorded pre-trade limits cannot be read: use the leader's release, or a newer one"
                ) from problem
            self._read = (raw, read if read.any else None)
        recorded = self._read[1]
        return [item for item in (self._own, recorded if recorded != self._own else None) if item is not None]

    def exceeded(
        self, orders: Sequence[ProposedOrder], groups: Sequence[tuple[OcoMode, Sequence[ProposedOrder]]] = ()
    ) -> list[tuple[str, Violation]]:
        """Return the limits that these orders and new groups would exceed together; commands per second do not count."""
        if not (settings := self.settings()):
            return []
        found: list[tuple[str, Violation]] = []
        held: list[Reservation] = []
        changes = [(name, self._change(self._state.record(name), order), symbol) for name, order, symbol in orders]
        tried = [(item, violations) for item in changes]
        tried += [(item, exceeded_limits) for mode, members in groups for item in group_changes(mode, members)]
        for (intent_id, change, symbol), check in tried:
            found += [(intent_id, item) for item in self._exceeded(intent_id, change, symbol, settings, check)]
            held.append(reservation_of(self._state.record(intent_id), change))
            self._reservations.add(held[-1])
        for reservation in held:
            self._reservations.drop(reservation)
        return found

    def _change(self, record: Record, order: StandardOrder) -> RiskChange:
        if record.intent is None:
            return RiskChange(order)
        claim = self._state.open_risk(record.intent_id, record.intent.order)
        # An ended order adds its whole risk; terms that the venue rejected cannot be reduced.
        refused = record.failed_generation == record.intent.generation
        known = None if claim is None or refused else record.intent.order
        return RiskChange(order, booked_qty(record), known, claim)

    def _exceeded(
        self,
        intent_id: str,
        change: RiskChange,
        symbol: SymbolMetadata,
        settings: list[LimitSettings],
        check: Callable[[Limits, Exposure, RiskChange, SymbolMetadata], list[Violation]] = violations,
    ) -> list[Violation]:
        exposure = self._reservations.over(
            self._state.symbol_exposure(symbol.symbol_id), symbol.symbol_id, but=intent_id
        )
        return [item for limits in settings for item in check(limits.of(symbol.symbol_id), exposure, change, symbol)]


def group_changes(mode: OcoMode, members: Sequence[ProposedOrder]) -> list[tuple[str, RiskChange, SymbolMetadata]]:
    quantities = quantities_at_risk(mode, [order for _, order, _ in members])
    return [
        (intent_id, RiskChange(order, order.quantity - quantity), symbol)
        for (intent_id, order, symbol), quantity in zip(members, quantities, strict=True)
    ]


def reservation_of(record: Record, change: RiskChange) -> Reservation:
    return Reservation(record.intent_id, record.version, change.added, orders=1 if change.open_risk is None else 0)


def beyond_limits(symbol_id: str, found: Sequence[Violation]) -> ValidationError:
    """Return the error; a limit that this kernel and the leader share is named once."""
    remedy = "lower the quantity, cancel another order first, or raise the limits of the running kernel"
    what = f"beyond the limits of {symbol_id} ({remedy})"
    return ValidationError(what, {f"{item.constraint} {item.limit}": item for item in found}.values())

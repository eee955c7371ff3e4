"""The state that the kernel reads: a contract, implemented by `projections.StatusRule`, passed in by the composition
root.

Used by the reconciler, the controller and the event-sourced stores. State is a fold of the log: one reader applies
batches to it, in order; everybody else only reads. It never looks at a clock and never suspends, but in `reached`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kernel.events import BaseEvent
from kernel.groups import Group
from kernel.lifecycle import Record
from kernel.limits import Exposure, OpenRisk
from kernel.models import AccountState, ExternalOrder, Finding, OrderIntent, OrderState, Position
from kernel.order_spec import AssetMetadata, StandardOrder, SymbolMetadata
from kernel.safety.heartbeat import Heartbeat
from kernel.safety.trading_halts import TradingStatus


@dataclass(frozen=True, slots=True)
class Applied:
    """What a batch changed."""

    touched: tuple[str, ...]
    """Intents that the batch had events of."""
    differing: tuple[str, ...]
    """Of those, the intents whose wanted and actual sides differ now: the change feed."""


def joined(applied: Sequence[Applied]) -> Applied:
    """What the parts of a batch changed together."""
    if len(applied) == 1:
        return applied[0]
    touched: dict[str, bool] = {}
    for part in applied:
        touched.update(dict.fromkeys(part.touched, False))
        touched.update(dict.fromkeys(part.differing, True))
    return Applied(tuple(touched), tuple(intent_id for intent_id, differs in touched.items() if differs))


class KernelState(Protocol):
    """Everything folded so far."""

    @property
    def position(self) -> int:
        """Position of the last event applied."""

    @property
    def log_id(self) -> str:
        """The log's 64 random bits in hex; empty before the first event."""

    @property
    def exchange_id(self) -> str:
        """The exchange account; empty before the first event."""

    @property
    def created_at_ns(self) -> int:
        """When the log was created."""

    @property
    def epoch(self) -> int:
        """Epoch of the newest leader."""

    @property
    def paused(self) -> bool:
        """Whether sending is paused for all intents."""

    @property
    def paused_by(self) -> str:
        """Who paused all intents, and why; empty while they are not paused."""

    @property
    def trading_status(self) -> TradingStatus:
        """All that holds requests back; the same object until that changes."""

    @property
    def trades_cursor_ns(self) -> int | None:
        """Every trade up to this venue instant is in the log; None before the first complete trades query."""

    def apply(self, batch: Sequence[BaseEvent], rehydrated: Sequence[BaseEvent] = ()) -> Applied:
        """Fold a batch whose first position follows `position`, after the evicted records that it needs."""

    def parts_of(self, batch: Sequence[BaseEvent]) -> Iterable[Sequence[BaseEvent]]:
        """A batch, cut where something may be let go."""

    def missing(self, part: Sequence[BaseEvent]) -> frozenset[str]:
        """Streams that a part of a batch goes on with, and that are not in memory."""

    @property
    def evicted_count(self) -> int:
        """How many intents that are over were let go so far."""

    def is_loaded(self, intent_id: str) -> bool:
        """Whether all that was ever recorded of an intent can be told from memory."""

    def cache_streams(self, rehydrated: Sequence[BaseEvent]) -> None:
        """Be able to tell of what was let go, for who asks now."""

    async def reached(self, position: int) -> None:
        """Return once `position` has been applied. Raises what `fail` was told."""

    def fail(self, problem: BaseException) -> None:
        """Nothing more will be applied: whoever waits, now or later, gets this problem."""

    def record(self, intent_id: str) -> Record:
        """All that is known of an intent; an empty record for one never heard of."""

    def intent(self, intent_id: str) -> OrderIntent | None:
        """What is wanted."""

    def effective_intent(self, intent_id: str) -> OrderIntent | None:
        """What is wanted of it now: the intent, as its group lets it be."""

    def grouped_record(self, intent_id: str) -> Record:
        """All that is known of an intent, which wants as much as its group lets it be."""

    def group(self, group_id: str) -> Group | None:
        """A group; None for one that was not created by `place_order_group`."""

    def group_of(self, intent_id: str) -> Group | None:
        """The group that an intent belongs to."""

    def groups(self) -> Iterable[Group]:
        """Every group, in order of creation."""

    def is_known_to_venue(self, group: Group) -> bool:
        """Whether the venue ever had an order of a group."""

    def awaits_parent(self, intent_id: str) -> bool:
        """Whether its group's leader may still release more of it than it may be now."""

    def overfilled_group(self, intent_id: str) -> Group | None:
        """The group of an intent, where whether more has filled than it allows is not told as it is."""

    def group_excess(self, group: Group) -> int:
        """How much more has filled than a group allows, at the quantity scale."""

    def order_state(self, intent_id: str) -> OrderState | None:
        """What is there, as far as a store shows it: None once it was forgotten."""

    def observed_order(self, intent_id: str) -> OrderState | None:
        """What is there, forgotten by a store or not: what the reconciler acts on. None when nothing was ever sent."""

    def intents(self) -> Iterable[OrderIntent]:
        """Every intent, in order of creation."""

    def intents_of_symbol(self, symbol_id: str) -> Iterable[OrderIntent]:
        """Those of a symbol, in order of creation."""

    def order_states(self) -> Iterable[OrderState]:
        """Every order state, in order of creation."""

    def live_intent_ids(self) -> list[str]:
        """Intents that want something, or whose order may be live, or that are not settled; in order of creation."""

    def intent_id_of(self, *, client_order_id: str | None = None, exchange_order_id: str | None = None) -> str | None:
        """The intent whose order carries one of these ids. The venue's id decides where both are known."""

    def open_orders(self, symbol_id: str) -> int:
        """How many intents have, or may have, an order open at the venue in a symbol."""

    @property
    def recorded_limits(self) -> Mapping[str, Any]:
        """The pre-trade limits of the newest kernel that led, as it recorded them; the same object until another does."""

    @property
    def heartbeats(self) -> Mapping[str, Heartbeat]:
        """Owners that have ever armed their heartbeat, by name."""

    def symbol_exposure(self, symbol_id: str) -> Exposure:
        """What works, may work or is wanted in a symbol, with its position and last price."""

    def open_risk(self, intent_id: str, order: StandardOrder) -> OpenRisk | None:
        """What an intent may still come to in an order's symbol and on its side; None when nothing."""

    def symbol(self, symbol_id: str) -> SymbolMetadata | None:
        """A symbol, as last observed."""

    def symbols(self) -> Iterable[SymbolMetadata]:
        """Every symbol, by id."""

    def asset(self, asset_id: str) -> AssetMetadata | None:
        """An asset, as last observed."""

    def assets(self) -> Iterable[AssetMetadata]:
        """Every asset, by id."""

    def positions(self) -> Iterable[Position]:
        """Every position with a fill, by symbol."""

    def account(self) -> AccountState:
        """The account as last observed."""

    def findings(self) -> Iterable[Finding]:
        """Findings, open and resolved, in the order raised."""

    def finding(self, finding_id: str) -> Finding | None:
        """The finding of an id, open or resolved; None when it was never raised."""

    def position_drift(self) -> dict[str, int]:
        """Symbol → observed position less what fills and others' trades come to; only what differs."""

    def external_orders(self) -> Iterable[ExternalOrder]:
        """Orders at the venue that are nobody's intent: the open ones, and the newest that ended."""

    def external_order(self, exchange_order_id: str) -> ExternalOrder | None:
        """One of them."""

    def balance_drift(self) -> dict[str, int]:
        """Asset → observed total less what the opening balance, fills and transfers come to; only what differs."""

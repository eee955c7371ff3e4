"""Keeps the symbols and assets of a venue: records what is new, and quarantines a symbol whose data do not fit the log.

A venue may list thousands of symbols; the setting `symbols` names those that are used, and no other is recorded.

Used by the session: at each connect, before the first report is recorded, and then slowly. A symbol's scale never changes
within a log, so a symbol that is shown with another one is not recorded, nothing is placed in it, and the numbers in its
reports are ignored; all other symbols go on. The finding resolves itself once the data fit again, and a complete list has
brought the trades that were left out meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from msgspec import structs

from kernel import events
from kernel.errors import OutcomeUnknown
from kernel.models import Evidence, FindingKind
from kernel.order_spec import AssetMetadata, SymbolMetadata, SymbolStatus
from kernel.runtime.finding_writer import FindingWriter
from kernel.state import KernelState
from kernel.streams.event_writer import EventWriter
from kernel.venues.guard import GuardedVenue, malformed

logger = logging.getLogger(__name__)
Listing = tuple[list[AssetMetadata], list[SymbolMetadata]]


@dataclass(eq=False)
class ReferenceData:
    """The symbols and assets of one venue, for one leader."""

    state: KernelState
    writer: EventWriter
    venue: GuardedVenue
    findings: FindingWriter
    ask: Callable[[], Awaitable[Listing]]
    """Queries the assets and the symbols."""
    used: frozenset[str] | None = None
    """The symbols to record; None for all that the venue lists."""
    rescaled_assets: frozenset[str] = field(default=frozenset(), init=False)
    """Assets that the venue shows with other decimals than the log has."""
    _fitting: frozenset[str] = field(default=frozenset(), init=False)
    """The listed symbols whose data fit the log."""

    @property
    def is_urgent(self) -> bool:
        """True if the symbol of a live intent is unknown or does not trade, or trades in a known one are left out."""
        known = map(self.state.symbol, self._live_symbols())
        trades = all(item is not None and item.status is SymbolStatus.TRADING for item in known)
        return not trades or any(map(self.state.symbol, self.venue.quarantined))

    @property
    def is_lifting(self) -> bool:
        """True while a list is still to bring the trades that a quarantine left out."""
        return any(
            item.kind is FindingKind.SYMBOL_QUARANTINED and not item.resolved_at_ns and item.symbol_id in self._fitting
            for item in self.state.findings()
        )

    def _live_symbols(self) -> set[str]:
        records = (self.state.record(intent_id) for intent_id in self.state.live_intent_ids())
        return {record.intent.order.symbol_id for record in records if record.intent is not None}

    async def sync(self) -> bool:
        """Record new and changed symbols and assets; return whether anything changed."""
        assets, symbols = await self.ask()
        if not symbols and any(self.state.symbols()):
            raise OutcomeUnknown("the venue lists no symbol at all")
        if missing := (self.used or frozenset()) - {item.symbol_id for item in symbols}:
            logger.warning("the setting `symbols` names what the venue does not list: %s", ", ".join(sorted(missing)))
        self.rescaled_assets = frozenset(item.asset_id for item in assets if self._is_rescaled(item))
        misfits = {item.symbol_id: why for item in symbols if (why := self._misfit(item, assets))}
        misfits |= dict.fromkeys(contradicted(symbols), "the venue lists it twice, with different data")
        lifted = self.venue.quarantined - misfits.keys()
        self.venue.quarantined = frozenset(misfits)
        self._fitting = frozenset(item.symbol_id for item in symbols) - misfits.keys()
        made = [
            *(events.AssetObserved(asset=item) for item in assets if self._is_new_asset(item)),
            *(events.SymbolObserved(symbol=item) for item in self._changed(symbols, misfits)),
        ]
        if made:
            actor = f"venue:{self.state.exchange_id}"
            await self.writer.append(events.REFERENCE_STREAM, made, actor=actor, evidence=Evidence.QUERY, is_fact=True)
        await self._report(misfits)
        return bool(made or lifted)

    def _changed(self, symbols: Iterable[SymbolMetadata], misfits: dict[str, str]) -> list[SymbolMetadata]:
        """Return the symbols to record: new and changed ones, and those that are gone, as closed."""
        listed = {item.symbol_id: item for item in symbols}
        gone = [
            structs.replace(item, status=SymbolStatus.CLOSED)
            for item in self.state.symbols()
            if item.symbol_id not in listed and item.status is not SymbolStatus.CLOSED
        ]
        new = [
            item
            for name, item in listed.items()
            if name not in misfits and self._is_used(name) and self.state.symbol(name) != item
        ]
        for item in new:
            if item.contract is not None:
                logger.warning("%s is a %s contract: only spot is supported", item.symbol_id, item.contract)
        return [*new, *gone]

    def _is_used(self, symbol_id: str) -> bool:
        return self.used is None or symbol_id in self.used or self.state.symbol(symbol_id) is not None

    def _is_new_asset(self, asset: AssetMetadata) -> bool:
        return asset.asset_id not in self.rescaled_assets and self.state.asset(asset.asset_id) != asset

    def _is_rescaled(self, asset: AssetMetadata) -> bool:
        known = self.state.asset(asset.asset_id)
        return known != asset and (malformed(asset) != "" or (known is not None and known.decimals != asset.decimals))

    def _misfit(self, symbol: SymbolMetadata, assets: Iterable[AssetMetadata]) -> str:
        """Return why a symbol does not fit the log; empty if it does."""
        known = self.state.symbol(symbol.symbol_id)
        if known != symbol and (why := malformed(symbol)):
            return f"its data are malformed: {why}"
        if known is not None and terms_for_ever(known) != terms_for_ever(symbol):
            return f"the venue shows it as {terms_for_ever(symbol)}, the log has {terms_for_ever(known)}"
        for asset_id in sorted(self.rescaled_assets & {symbol.base_asset, symbol.quote_asset}):
            had = self.state.asset(asset_id)
            shown = ", ".join(str(item.decimals) for item in assets if item.asset_id == asset_id)
            return f"the venue shows {asset_id} with {shown} decimals, the log has {had.decimals if had else '?'}"
        return ""

    async def _report(self, misfits: dict[str, str]) -> None:
        """Raise the findings, and wait for them: they stop the symbols' orders."""
        gone = filter(self.state.symbol, self._live_symbols() - self._fitting - misfits.keys())
        reasons = misfits | dict.fromkeys(gone, "the venue no longer lists it, so it counts as closed")
        for name, why in reasons.items():
            text = f"nothing is placed in {name}: {why}"
            self.findings.raise_finding(FindingKind.SYMBOL_QUARANTINED, name, text, symbol_id=name)
        await self.findings.settled()

    async def lift(self, left_out: frozenset[str]) -> None:
        """Resolve the findings of symbols that fit again, after a complete list that left out the trades of others only."""
        for name in self._fitting - left_out:
            self.findings.resolve(FindingKind.SYMBOL_QUARANTINED, name, "the venue shows the data that the log has")
        await self.findings.settled()


def terms_for_ever(symbol: SymbolMetadata) -> str:
    """Return as text what must not change about a symbol within a log."""
    return (
        f"{symbol.base_asset}/{symbol.quote_asset} with {symbol.price_decimals} decimals in prices and"
        f" {symbol.quantity_decimals} in quantities"
    )


def contradicted(symbols: Iterable[SymbolMetadata]) -> set[str]:
    """Return the symbols that are listed more than once, with different data."""
    first: dict[str, SymbolMetadata] = {}
    return {item.symbol_id for item in symbols if first.setdefault(item.symbol_id, item) != item}

"""Symbols and assets, as last observed. Folded by `StatusRule`."""

from __future__ import annotations

from collections.abc import Iterable

from kernel import events
from kernel.order_spec import AssetMetadata, SymbolMetadata


class Reference:
    """What can be traded, and at which scales."""

    def __init__(self) -> None:
        self._symbols: dict[str, SymbolMetadata] = {}
        self._assets: dict[str, AssetMetadata] = {}
        self.decimals: dict[str, int] = {}
        """Asset → scale."""

    def apply(self, event: events.SymbolObserved | events.AssetObserved) -> None:
        """A symbol or an asset is this from now on."""
        if isinstance(event, events.SymbolObserved):
            self._symbols[event.symbol.symbol_id] = event.symbol
            return
        self._note_asset(event.asset)

    def restore(self, symbols: Iterable[SymbolMetadata], assets: Iterable[AssetMetadata]) -> None:
        """Take over what another one had."""
        self._symbols.update((symbol.symbol_id, symbol) for symbol in symbols)
        for asset in assets:
            self._note_asset(asset)

    def _note_asset(self, asset: AssetMetadata) -> None:
        self._assets[asset.asset_id] = asset
        self.decimals[asset.asset_id] = asset.decimals

    def symbol(self, symbol_id: str) -> SymbolMetadata | None:
        """One symbol."""
        return self._symbols.get(symbol_id)

    def symbols(self) -> list[SymbolMetadata]:
        """All of them, by id."""
        return [self._symbols[symbol_id] for symbol_id in sorted(self._symbols)]

    def asset(self, asset_id: str) -> AssetMetadata | None:
        """One asset."""
        return self._assets.get(asset_id)

    def assets(self) -> list[AssetMetadata]:
        """All of them, by id."""
        return [self._assets[asset_id] for asset_id in sorted(self._assets)]

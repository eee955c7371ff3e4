"""Symbols and assets, as last observed. Folded by `Fold`, and by readers that need scales only."""

from __future__ import annotations

from collections.abc import Iterable

from kernel import events
from kernel.order_spec import AssetMetadata, SymbolMetadata


class Reference:
    """The symbols and assets of one account, and their scales."""

    def __init__(self) -> None:
        self._symbols: dict[str, SymbolMetadata] = {}
        self._assets: dict[str, AssetMetadata] = {}
        self.decimals: dict[str, int] = {}
        """Asset to its number of decimals."""

    def apply(self, event: events.SymbolObserved | events.AssetObserved) -> None:
        if isinstance(event, events.SymbolObserved):
            self._symbols[event.symbol.symbol_id] = event.symbol
        else:
            self._put_asset(event.asset)

    def restore(self, symbols: Iterable[SymbolMetadata], assets: Iterable[AssetMetadata]) -> None:
        self._symbols.update((symbol.symbol_id, symbol) for symbol in symbols)
        for asset in assets:
            self._put_asset(asset)

    def _put_asset(self, asset: AssetMetadata) -> None:
        self._assets[asset.asset_id] = asset
        self.decimals[asset.asset_id] = asset.decimals

    def symbol(self, symbol_id: str) -> SymbolMetadata | None:
        return self._symbols.get(symbol_id)

    def symbols(self) -> list[SymbolMetadata]:
        """All, ordered by id."""
        return [self._symbols[symbol_id] for symbol_id in sorted(self._symbols)]

    def asset(self, asset_id: str) -> AssetMetadata | None:
        return self._assets.get(asset_id)

    def assets(self) -> list[AssetMetadata]:
        """All, ordered by id."""
        return [self._assets[asset_id] for asset_id in sorted(self._assets)]

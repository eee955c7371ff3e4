"""The state of a paper exchange as a fold of changes: orders, trades and balances, now and in the past.

State changes only through `apply`, live and in recovery. Orders keep their versions and balances their history, so that a
lagging query shows the true state of that instant. It decides nothing and has no clock.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping

from msgspec import structs
from msgspec.structs import replace

from kernel.models import Balance
from kernel.order_spec import Side, SymbolMetadata
from kernel.values import set_fields
from kernel.venues.paper.matching import changes
from kernel.venues.paper.matching.config import PaperConfig
from kernel.venues.paper.matching.matching_rules import Resting, rescale
from kernel.venues.paper.matching.orders import PaperOrder, PaperTrade, Place, after, filled, opened

BALANCE_HISTORY_MAX = 20_000
"""Versions of a balance that are kept; an older query shows the oldest."""
Unit = tuple[str, int]
"""Orders that share their locked funds: one order, or the siblings of a group."""


class PaperBook:
    """Orders, trades and balances of one exchange."""

    def __init__(self, config: PaperConfig, *, balances: dict[str, int]) -> None:
        self.symbols: dict[str, SymbolMetadata] = {symbol.symbol_id: symbol for symbol in config.symbols}
        self.trades: dict[int, PaperTrade] = {}
        self.last_ns = 0
        """Newest instant of any change."""
        self.last_order_id = self.last_trade_id = self.last_exec_id = 0
        """The highest ids that any change carries."""
        self._asset_decimals = {asset.asset_id: asset.decimals for asset in config.assets}
        self._versions: dict[int, list[PaperOrder]] = {}
        self._by_client: dict[str, list[tuple[int, int]]] = {}
        self._sides: dict[tuple[str, Side], list[Place]] = {}
        self._armed: dict[str, dict[int, None]] = {}
        self._groups: dict[int, list[int]] = {}
        self._expiries: list[tuple[int, int]] = []
        self._positions: dict[str, int] = {}
        self._own_open: dict[int, None] = {}
        self._held: dict[Unit, dict[str, int]] = {}
        self._open_count: dict[str, int] = {}
        self._balances = {asset: [(0, balances.get(asset, 0), 0)] for asset in {*self._asset_decimals, *balances}}

    def order(self, order_id: int) -> PaperOrder | None:
        versions = self._versions.get(order_id)
        return versions[-1] if versions else None

    def current(self, order_id: int) -> PaperOrder:
        """Return the newest version of an order that exists."""
        return self._versions[order_id][-1]

    def newest(
        self, client_order_id: str, *, open_only: bool = False, as_of_ns: int | None = None
    ) -> PaperOrder | None:
        """Return the client's newest order with a client order id, as of an instant."""
        for order_id, since_ns in reversed(self._by_client.get(client_order_id, ())):
            if as_of_ns is not None and since_ns > as_of_ns:
                continue
            order = self._as_of(self._versions[order_id], as_of_ns)
            if order is not None and (order.open or not open_only):
                return order
        return None

    def named_ns(self, client_order_id: str) -> int | None:
        """Return when an order of the client last received a client order id, by its opening or an amend."""
        named = self._by_client.get(client_order_id)
        return named[-1][1] if named else None

    def own_order(self, exchange_order_id: str, *, as_of_ns: int | None = None) -> PaperOrder | None:
        """Return the client's order with a venue order id, as of an instant."""
        versions = self._versions.get(int(exchange_order_id)) if exchange_order_id.isdecimal() else None
        return self._as_of(versions, as_of_ns) if versions and versions[-1].own else None

    def own_orders(self, *, as_of_ns: int | None = None) -> Iterator[PaperOrder]:
        """Yield every order of the client as of an instant, oldest first."""
        for versions in self._versions.values():
            order = self._as_of(versions, as_of_ns) if versions[-1].own else None
            if order is not None:
                yield order

    def own_open(self) -> Iterator[PaperOrder]:
        for order_id in self._own_open:
            yield self.current(order_id)

    def places(self, symbol_id: str, side: Side) -> Iterator[Place]:
        yield from self._sides.get((symbol_id, side), ())

    def resting(self, symbol_id: str, side: Side, *, but_account: str | None = None) -> Iterator[Resting]:
        """Yield the orders on a side in price-time priority, except those of one account."""
        for *_, order_id in self.places(symbol_id, side):
            order = self.current(order_id)
            if order.account != but_account:
                yield order.resting

    def armed(self, symbol_id: str) -> Iterator[PaperOrder]:
        for order_id in self._armed.get(symbol_id, ()):
            yield self.current(order_id)

    def members(self, group_id: int) -> list[int]:
        return self._groups.get(group_id, [])

    def held_by_unit(self, unit: Unit) -> dict[str, int]:
        return self._held.get(unit, {})

    def position(self, symbol_id: str) -> int:
        return self._positions.get(symbol_id, 0)

    def next_expiry_ns(self) -> int | None:
        while self._expiries:
            if self._is_to_expire(*self._expiries[0]):
                return self._expiries[0][0]
            heapq.heappop(self._expiries)
        return None

    def expired(self, now_ns: int) -> list[int]:
        """Return the open orders that are due to expire, earliest first."""
        if not self._expiries or self._expiries[0][0] > now_ns:
            return []
        due = sorted({entry for entry in self._expiries if entry[0] <= now_ns and self._is_to_expire(*entry)})
        return [order_id for _, order_id in due]

    def _is_to_expire(self, at_ns: int, order_id: int) -> bool:
        order = self.current(order_id)
        return order.open and order.expires_ns == at_ns

    def open_count(self, symbol_id: str) -> int:
        return self._open_count.get(symbol_id, 0)

    def free(self, asset_id: str) -> int:
        _, total, locked = self._balances[asset_id][-1]
        return total - locked

    def balances(self, *, as_of_ns: int | None = None) -> dict[str, Balance]:
        found = {}
        for asset_id in sorted(self._balances):
            history = self._balances[asset_id]
            index = len(history) if as_of_ns is None else bisect_right(history, as_of_ns, key=lambda entry: entry[0])
            _, total, locked = history[max(index - 1, 0)]
            found[asset_id] = Balance(asset_id=asset_id, total=total, locked=locked, free=total - locked)
        return found

    @staticmethod
    def _as_of(versions: list[PaperOrder], as_of_ns: int | None) -> PaperOrder | None:
        if as_of_ns is None or versions[-1].updated_ns <= as_of_ns:
            return versions[-1]
        index = bisect_right(versions, as_of_ns, key=lambda order: order.updated_ns)
        return versions[index - 1] if index else None

    def quote_amount(self, symbol: SymbolMetadata, notional: int, *, up: bool) -> int:
        decimals = symbol.price_decimals + symbol.quantity_decimals
        return rescale(notional, decimals=decimals, to_decimals=self._asset_decimals[symbol.quote_asset], up=up)

    def base_amount(self, symbol: SymbolMetadata, quantity: int) -> int:
        return rescale(
            quantity, decimals=symbol.quantity_decimals, to_decimals=self._asset_decimals[symbol.base_asset], up=True
        )

    def held(self, orders: Iterable[PaperOrder]) -> dict[str, int]:
        """Return the amounts that orders of one unit lock, by asset: those of the order that locks most."""
        held: dict[str, int] = {}
        for order in orders:
            asset_id, amount = self._held_by(order)
            if amount:
                held[asset_id] = max(held.get(asset_id, 0), amount)
        return held

    def _held_by(self, order: PaperOrder) -> tuple[str, int]:
        if not order.open or not order.own or order.pending:
            return "", 0
        symbol = self.symbols[order.symbol_id]
        if order.side is Side.SELL:
            return symbol.base_asset, self.base_amount(symbol, order.leaves_qty)
        price = (order.stop_price if order.armed and order.price is None else order.price) or 0
        whole = self.quote_amount(symbol, order.cum_notional + price * order.leaves_qty, up=True)
        return symbol.quote_asset, whole - self.quote_amount(symbol, order.cum_notional, up=True)

    def balance_changes(self, old: PaperOrder | None, new: PaperOrder) -> dict[str, int]:
        """Return the change of each balance between two versions. Rounding is against the client, once per order."""
        if old is None or (old.cum_qty, old.cum_notional) == (new.cum_qty, new.cum_notional):
            return {}
        symbol = self.symbols[new.symbol_id]
        buys = new.side is Side.BUY
        before, now = (self.quote_amount(symbol, order.cum_notional, up=buys) for order in (old, new))
        base = self.base_amount(symbol, new.cum_qty) - self.base_amount(symbol, old.cum_qty)
        sign = 1 if buys else -1
        return {symbol.base_asset: sign * base, symbol.quote_asset: -sign * (now - before)}

    def apply(self, change: changes.JournalEntry) -> None:
        """Apply a change without checking it."""
        match change:
            case changes.Opened():
                self._enter(opened(change))
            case changes.Traded():
                self._trade(change)
            case changes.Corrected():
                self._correct(change)
            case changes.AheadChanged():
                versions = self._versions[change.order_id]
                versions[-1] = replace(versions[-1], ahead=change.ahead)
                return
            case changes.SymbolSet():
                symbol = self.symbols[change.symbol_id]
                self.symbols[change.symbol_id] = structs.replace(symbol, **set_fields(change))
                return
            case _:
                self._evolve(change)
        self.last_ns = max(self.last_ns, change.at_ns)
        self.last_exec_id = max(self.last_exec_id, change.exec_id)

    def adopt(self, orders: Iterable[PaperOrder], positions: Mapping[str, int]) -> None:
        """Start with given orders and positions; their earlier trades are already in the opening balances."""
        for order in orders:
            self._enter(order)
            self.last_ns = max(self.last_ns, order.updated_ns)
        self._positions.update(positions)

    def _enter(self, order: PaperOrder) -> None:
        self._versions[order.order_id] = []
        self.last_order_id = max(self.last_order_id, order.order_id)
        if order.own:
            self._name(order)
        if order.group_id is not None:
            self._groups.setdefault(order.group_id, []).append(order.order_id)
        self._replace(None, order)

    def _evolve(self, change: changes.OrderChange) -> None:
        order = self.current(change.order_id)
        new = after(order, change)
        if isinstance(change, changes.Amended) and change.request_id is not None:
            self._name(new)
        self._replace(order, new)

    def _name(self, order: PaperOrder) -> None:
        self._by_client.setdefault(order.client_order_id, []).append((order.order_id, order.updated_ns))

    def _trade(self, change: changes.Traded) -> None:
        self.last_trade_id = max(self.last_trade_id, change.trade_id)
        self._evolve(change)
        if not self.current(change.order_id).own:
            return
        self.trades[change.trade_id] = PaperTrade(
            trade_id=change.trade_id,
            order_id=change.order_id,
            price=change.price,
            quantity=change.quantity,
            fee=change.fee,
            fee_asset=change.fee_asset,
            liquidity=change.liquidity,
        )
        self._move(change.fee_asset, change.at_ns, total=-change.fee)

    def _correct(self, change: changes.Corrected) -> None:
        trade = self.trades[change.trade_id]
        order = self.current(trade.order_id)
        new = filled(
            order,
            quantity=change.quantity - trade.quantity,
            notional=change.price * change.quantity - trade.price * trade.quantity,
            at_ns=change.at_ns,
        )
        self._replace(order, new)
        self._move(trade.fee_asset, change.at_ns, total=trade.fee - change.fee)
        self.trades[trade.trade_id] = replace(
            trade, price=change.price, quantity=change.quantity, fee=change.fee, last_exec_id=change.exec_id
        )

    def _replace(self, old: PaperOrder | None, new: PaperOrder) -> None:
        self._versions[new.order_id].append(new)
        self._index(old, new)
        if not new.own:
            return
        for asset_id, amount in self.balance_changes(old, new).items():
            self._move(asset_id, new.updated_ns, total=amount)
        if old is not None:
            filled_qty = new.cum_qty - old.cum_qty
            signed = filled_qty if new.side is Side.BUY else -filled_qty
            self._positions[new.symbol_id] = self.position(new.symbol_id) + signed
        self._hold(new)

    def _index(self, old: PaperOrder | None, new: PaperOrder) -> None:
        """Update the sides, stop orders, expiries and open orders."""
        before = old.place if old is not None and old.rests else None
        now = new.place if new.rests else None
        if before != now:
            places = self._sides.setdefault((new.symbol_id, new.side), [])
            if before is not None:
                places.pop(bisect_left(places, before))
            if now is not None:
                insort(places, now)
        armed = self._armed.setdefault(new.symbol_id, {})
        if new.open and new.armed and not new.pending:
            armed[new.order_id] = None
        else:
            armed.pop(new.order_id, None)
        if (
            new.open
            and new.expires_ns is not None
            and (old is None or old.expires_ns != new.expires_ns or not old.open)
        ):
            heapq.heappush(self._expiries, (new.expires_ns, new.order_id))
        if new.own and new.open != (old is not None and old.open):
            self._open_count[new.symbol_id] = self.open_count(new.symbol_id) + (1 if new.open else -1)
            if new.open:
                self._own_open[new.order_id] = None
            else:
                del self._own_open[new.order_id]

    def _hold(self, order: PaperOrder) -> None:
        """Lock what the order's unit holds now instead of what it held before."""
        unit = unit_of(order)
        before = self._held.get(unit, {})
        now = self.held(self.in_unit(order))
        if now == before:
            return
        for asset_id in sorted({*before, *now}):
            self._move(asset_id, order.updated_ns, locked=now.get(asset_id, 0) - before.get(asset_id, 0))
        if now:
            self._held[unit] = now
        else:
            del self._held[unit]

    def in_unit(self, order: PaperOrder) -> Iterator[PaperOrder]:
        """Yield the order and those that share its locked funds."""
        if order.linked is None:
            yield self.current(order.order_id)
            return
        for order_id in self.members(order.linked):
            member = self.current(order_id)
            if not member.leads:
                yield member

    def _move(self, asset_id: str, at_ns: int, *, total: int = 0, locked: int = 0) -> None:
        if not total and not locked:
            return
        history = self._balances[asset_id]
        _, old_total, old_locked = history[-1]
        history.append((at_ns, old_total + total, old_locked + locked))
        if len(history) > BALANCE_HISTORY_MAX:
            del history[: BALANCE_HISTORY_MAX // 2]


def unit_of(order: PaperOrder) -> Unit:
    """Return the unit in which an order locks funds."""
    return ("order", order.order_id) if order.linked is None else ("group", order.linked)

"""The state of a paper exchange: orders, trades and balances, as a fold of changes, now and a while ago.

`paper_engine` decides and applies; `apply` is the only door through which state changes, in life and in recovery. Every
order keeps its versions, and balances their history, so that a lagging or stale read is the true state of that instant.
It decides nothing and knows no clock.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass, replace

from kernel.models import Balance, Liquidity, OrdStatus
from kernel.order_spec import OrderType, Side, SymbolMetadata, TimeInForce
from kernel.venues.paper_changes import OWN, AheadChanged, Change, Closed, Corrected, Opened, SymbolSet, Traded
from kernel.venues.paper_config import PaperConfig
from kernel.venues.paper_rules import Resting, rescale

OPEN_STATUSES = frozenset({OrdStatus.NEW, OrdStatus.PARTIALLY_FILLED})
BALANCE_HISTORY_MAX = 20_000
"""Versions of a balance that are kept; older stale reads show the oldest kept."""


@dataclass(frozen=True, slots=True)
class PaperOrder:
    """One version of an order."""

    order_id: int
    account: str
    client_order_id: str
    symbol_id: str
    side: Side
    order_type: OrderType
    quantity: int
    price: int | None
    time_in_force: TimeInForce
    created_ns: int
    updated_ns: int
    status: OrdStatus = OrdStatus.NEW
    cum_qty: int = 0
    cum_notional: int = 0
    ahead: int = 0

    @property
    def open(self) -> bool:
        """Whether it can trade."""
        return self.status in OPEN_STATUSES

    @property
    def leaves_qty(self) -> int:
        """What of it can still trade."""
        return self.quantity - self.cum_qty if self.open else 0

    @property
    def own(self) -> bool:
        """Whether it is the client's."""
        return self.account == OWN


@dataclass(frozen=True, slots=True)
class PaperTrade:
    """A trade of one of the client's orders, as it stands after corrections."""

    trade_id: int
    order_id: int
    price: int
    quantity: int
    """0 when the trade is void."""
    fee: int
    fee_asset: str
    liquidity: Liquidity
    last_exec_id: int | None = None
    """The correction or bust that it stands by; none while it is as it was made."""


class PaperBook:
    """Orders, trades and balances of one exchange."""

    def __init__(self, config: PaperConfig, *, balances: dict[str, int]) -> None:
        self.symbols: dict[str, SymbolMetadata] = {symbol.symbol_id: symbol for symbol in config.symbols}
        self.trades: dict[int, PaperTrade] = {}
        self.last_ns = 0
        """The newest instant that any change carries."""
        self.last_order_id = self.last_trade_id = self.last_exec_id = 0
        """The highest ids that any change carries."""
        self._asset_decimals = {asset.asset_id: asset.decimals for asset in config.assets}
        self._versions: dict[int, list[PaperOrder]] = {}
        self._by_client: dict[str, list[int]] = {}
        self._sides: dict[tuple[str, Side], list[tuple[int, int]]] = {}
        self._open_count: dict[str, int] = {}
        self._balances = {asset: [(0, balances.get(asset, 0), 0)] for asset in {*self._asset_decimals, *balances}}

    # ------------------------------------------------------------------------------------------------------- reading
    def order(self, order_id: int) -> PaperOrder | None:
        """An order by its id."""
        versions = self._versions.get(order_id)
        return versions[-1] if versions else None

    def newest(
        self, client_order_id: str, *, open_only: bool = False, as_of_ns: int | None = None
    ) -> PaperOrder | None:
        """The client's newest order under a client order id, as it was at an instant."""
        for order_id in reversed(self._by_client.get(client_order_id, ())):
            order = self._as_of(self._versions[order_id], as_of_ns)
            if order is not None and (order.open or not open_only):
                return order
        return None

    def own_orders(self, *, as_of_ns: int | None = None) -> Iterator[PaperOrder]:
        """Every order that the client ever had, oldest first, as it was at an instant."""
        for versions in self._versions.values():
            order = self._as_of(versions, as_of_ns) if versions[-1].own else None
            if order is not None:
                yield order

    def own_open(self) -> Iterator[PaperOrder]:
        """The client's open orders."""
        for entries in self._sides.values():
            for _, order_id in entries:
                order = self._versions[order_id][-1]
                if order.own:
                    yield order

    def resting(self, symbol_id: str, side: Side, *, but_account: str | None = None) -> Iterator[Resting]:
        """The orders on a side in price-time priority, without those of one account."""
        for _, order_id in self._sides.get((symbol_id, side), ()):
            order = self._versions[order_id][-1]
            if order.account != but_account and order.price is not None:
                yield Resting(order.order_id, order.price, order.leaves_qty, order.ahead)

    def open_count(self, symbol_id: str) -> int:
        """How many orders the client has open in a symbol."""
        return self._open_count.get(symbol_id, 0)

    def free(self, asset_id: str) -> int:
        """What the client can use of an asset."""
        _, total, locked = self._balances[asset_id][-1]
        return total - locked

    def balances(self, *, as_of_ns: int | None = None) -> dict[str, Balance]:
        """The client's balances, as they were at an instant."""
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

    # ---------------------------------------------------------------------------------------------------- arithmetic
    def quote_amount(self, symbol: SymbolMetadata, notional: int, *, up: bool) -> int:
        """A notional as an amount of the quote asset."""
        decimals = symbol.price_decimals + symbol.quantity_decimals
        return rescale(notional, decimals=decimals, to_decimals=self._asset_decimals[symbol.quote_asset], up=up)

    def base_amount(self, symbol: SymbolMetadata, quantity: int) -> int:
        """A quantity as an amount of the base asset."""
        return rescale(
            quantity, decimals=symbol.quantity_decimals, to_decimals=self._asset_decimals[symbol.base_asset], up=True
        )

    def locked_by(self, order: PaperOrder | None) -> tuple[str, int]:
        """The asset and the amount that an order holds. Per order it is at least what the order may still cost."""
        if order is None or not order.open or not order.own:
            return "", 0
        symbol = self.symbols[order.symbol_id]
        if order.side is Side.SELL:
            return symbol.base_asset, self.base_amount(symbol, order.leaves_qty)
        price = order.price or 0
        whole = self.quote_amount(symbol, price * order.quantity, up=True)
        return symbol.quote_asset, whole - self.quote_amount(symbol, price * order.cum_qty, up=True)

    # ------------------------------------------------------------------------------------------------------ changing
    def apply(self, change: Change) -> None:
        """Make a change; whatever was decided is taken as it is."""
        match change:
            case Opened():
                self._open(change)
            case Traded():
                self._trade(change)
            case Closed():
                order = self._current(change.order_id)
                self._replace(order, replace(order, status=change.status, updated_ns=change.at_ns))
            case Corrected():
                self._correct(change)
            case AheadChanged():
                versions = self._versions[change.order_id]
                versions[-1] = replace(versions[-1], ahead=change.ahead)
                return
            case SymbolSet():
                symbol = self.symbols[change.symbol_id]
                changed = change.model_dump(exclude={"kind", "symbol_id"}, exclude_none=True)
                self.symbols[change.symbol_id] = symbol.model_copy(update=changed)
                return
        self.last_ns = max(self.last_ns, change.at_ns)
        self.last_exec_id = max(self.last_exec_id, change.exec_id)

    def _open(self, change: Opened) -> None:
        order = PaperOrder(
            order_id=change.order_id,
            account=change.account,
            client_order_id=change.client_order_id,
            symbol_id=change.symbol_id,
            side=change.side,
            order_type=change.order_type,
            quantity=change.quantity,
            price=change.price,
            time_in_force=change.time_in_force,
            created_ns=change.at_ns,
            updated_ns=change.at_ns,
            ahead=change.ahead,
        )
        self._versions[order.order_id] = []
        self.last_order_id = max(self.last_order_id, order.order_id)
        if order.own:
            self._by_client.setdefault(order.client_order_id, []).append(order.order_id)
        self._replace(None, order)

    def _trade(self, change: Traded) -> None:
        order = self._current(change.order_id)
        self.last_trade_id = max(self.last_trade_id, change.trade_id)
        self._fill(order, quantity=change.quantity, notional=change.price * change.quantity, at_ns=change.at_ns)
        if not order.own:
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

    def _correct(self, change: Corrected) -> None:
        trade = self.trades[change.trade_id]
        order = self._current(trade.order_id)
        self._fill(
            order,
            quantity=change.quantity - trade.quantity,
            notional=change.price * change.quantity - trade.price * trade.quantity,
            at_ns=change.at_ns,
        )
        self._move(trade.fee_asset, change.at_ns, total=trade.fee - change.fee)
        self.trades[trade.trade_id] = replace(
            trade, price=change.price, quantity=change.quantity, fee=change.fee, last_exec_id=change.exec_id
        )

    def _fill(self, order: PaperOrder, *, quantity: int, notional: int, at_ns: int) -> None:
        """Change what is filled of an order. A filled order that has something left again is open again."""
        cum_qty = order.cum_qty + quantity
        assert 0 <= cum_qty <= order.quantity, "nothing is filled beyond its quantity"
        status = order.status
        if order.open or status is OrdStatus.FILLED:
            partly = OrdStatus.PARTIALLY_FILLED if cum_qty else OrdStatus.NEW
            status = OrdStatus.FILLED if cum_qty == order.quantity else partly
        new = replace(
            order, cum_qty=cum_qty, cum_notional=order.cum_notional + notional, status=status, updated_ns=at_ns
        )
        self._replace(order, new)

    def _current(self, order_id: int) -> PaperOrder:
        return self._versions[order_id][-1]

    def _replace(self, old: PaperOrder | None, new: PaperOrder) -> None:
        self._versions[new.order_id].append(new)
        self._index(old, new)
        if not new.own:
            return
        self._settle(old, new)
        for order, sign in ((old, -1), (new, 1)):
            asset_id, amount = self.locked_by(order)
            if amount:
                self._move(asset_id, new.updated_ns, locked=sign * amount)

    def _index(self, old: PaperOrder | None, new: PaperOrder) -> None:
        """Keep the sides and the counts of open orders. A market order is never in a side: it never rests."""
        was_open = old is not None and old.open
        if was_open == new.open:
            return
        if new.own:
            self._open_count[new.symbol_id] = self._open_count.get(new.symbol_id, 0) + (1 if new.open else -1)
        if new.price is None:
            return
        entries = self._sides.setdefault((new.symbol_id, new.side), [])
        entry = (-new.price if new.side is Side.BUY else new.price, new.order_id)
        if new.open:
            insort(entries, entry)
        else:
            entries.pop(bisect_right(entries, entry) - 1)

    def _settle(self, old: PaperOrder | None, new: PaperOrder) -> None:
        """Move base and quote by what was filled. Rounding is against the client, once per order and not per fill."""
        if old is None or (old.cum_qty, old.cum_notional) == (new.cum_qty, new.cum_notional):
            return
        symbol = self.symbols[new.symbol_id]
        buys = new.side is Side.BUY
        before, after = (self.quote_amount(symbol, order.cum_notional, up=buys) for order in (old, new))
        base = self.base_amount(symbol, new.cum_qty) - self.base_amount(symbol, old.cum_qty)
        sign = 1 if buys else -1
        self._move(symbol.base_asset, new.updated_ns, total=sign * base)
        self._move(symbol.quote_asset, new.updated_ns, total=-sign * (after - before))

    def _move(self, asset_id: str, at_ns: int, *, total: int = 0, locked: int = 0) -> None:
        history = self._balances[asset_id]
        _, old_total, old_locked = history[-1]
        history.append((at_ns, old_total + total, old_locked + locked))
        if len(history) > BALANCE_HISTORY_MAX:
            del history[: BALANCE_HISTORY_MAX // 2]

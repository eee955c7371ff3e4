"""What a venue with a personality does in a run: false ends, forgotten orders, balances that move, and so on.

A mixin of the player.
"""

from __future__ import annotations

from kernel.clock import NS_PER_S
from kernel.models import OrdStatus
from kernel.venues.base import Transfer
from kernel.venues.paper.matching.orders import PaperOrder
from kernel.venues.paper.matching.reports import status_report
from tests.simulation.personality import OMITTED_AGAIN_NS
from tests.simulation.world import World


class VenueEvents:
    """The events, as verbs for the player."""

    world: World

    def _own(self, which: str) -> PaperOrder | None:
        """One of the open orders that kernels placed, if there is any."""
        own, foreign = self.world.exchange.engine.book.own_open(), self.world.audit.foreign
        found = sorted((order for order in own if str(order.order_id) not in foreign), key=lambda order: order.order_id)
        return found[int(which) % len(found)] if found else None

    def _until_ns(self, for_s: str) -> int:
        return self.world.clock.now_ns() + int(for_s) * NS_PER_S

    def _do_false_end(self, which: str, status: str) -> None:
        """The stream reports the end of an order that stays open."""
        if (order := self._own(which)) is None:
            return
        order_id = str(order.order_id)
        self.world.audit.false_ends[order_id] += 1
        report = self.world.personality.false_end(status_report(order), OrdStatus(status))
        self.world.tell("venue", f"reports falsely that {order_id} is {status}")
        for session in self.world.sessions:
            session.put(report)

    def _do_purge(self, which: str) -> None:
        """The venue forgets an order: it is open no more, in no list, and no query shows it."""
        if (order := self._own(which)) is None:
            return
        self.world.personality.purged.add(str(order.order_id))
        self.world.tell("venue", f"forgets {order.order_id}")
        self.world.exchange.engine.cancel_order(exchange_order_id=str(order.order_id))

    def _do_expire(self, which: str) -> None:
        """The venue ends an order to prevent a self-trade."""
        if (order := self._own(which)) is not None:
            self.world.exchange.expire(order.order_id)

    def _do_undo(self, symbol_id: str, for_s: str) -> None:
        """The venue ends every order in a symbol at once, for a while."""
        self.world.personality.undoes[symbol_id] = self._until_ns(for_s)

    def _do_omit(self, which: str) -> None:
        """The next list lacks an open order that the kernels know."""
        order, personality = self._own(which), self.world.personality
        if order is None or not self.world.audit.is_known(str(order.order_id)):
            return
        lacked_ns = personality.lacked_ns.get(str(order.order_id), 0)
        if self.world.clock.now_ns() > lacked_ns + OMITTED_AGAIN_NS:
            personality.omitted.add(str(order.order_id))

    def _do_decrement(self, which: str, by: str) -> None:
        """The venue reduces an order to prevent a self-trade."""
        order = self._own(which)
        if order is None or order.quantity - order.cum_qty <= int(by):
            return
        self.world.audit.reduced.add(str(order.order_id))
        engine = self.world.exchange.engine
        draft = engine._transaction()
        draft.amend(order, quantity=order.quantity - int(by))
        engine._commit(draft)

    def _do_flow(self, asset_id: str, amount: str) -> None:
        """A deposit, a withdrawal or funding."""
        personality = self.world.personality
        key, now_ns = f"flow-{len(personality.flows)}", self.world.clock.now_ns()
        personality.flows.append(
            Transfer(transfer_key=key, asset_id=asset_id, amount=int(amount), transact_time_ns=now_ns, text="flow")
        )

    def _do_rescale(self, symbol_id: str, for_s: str) -> None:
        self.world.personality.rescaled[symbol_id] = self._until_ns(for_s)

    def _do_delist(self, symbol_id: str, for_s: str) -> None:
        self.world.personality.delisted[symbol_id] = self._until_ns(for_s)

    def _do_mute(self, for_s: str) -> None:
        self.world.personality.muted_until_ns = self._until_ns(for_s)

    def _do_busy(self, for_s: str) -> None:
        self.world.personality.busy_until_ns = self._until_ns(for_s)

    def _do_defect(self, call: str) -> None:
        self.world.personality.defects.append(call)

    def _do_clock(self, name: str, offset_s: str, for_s: str) -> None:
        """A host's clock is wrong for a while."""
        process = self.world.process(name)
        if process is None:
            return
        process.clock.shift(int(offset_s) * NS_PER_S)
        self.world.later(float(for_s), lambda: process.clock.shift(-int(offset_s) * NS_PER_S))

"""Writes random scripts for the runner, move by move, from what there is at that moment; one seed, one script.

Used by `test_random_scripts`. Everything that a venue may do within what it declares is in it: requests and answers held,
lost or late, reports lost, doubled or reordered, queries as stale as the read lag allows, fills, busts, unsolicited ends,
refusals, lost connections and streams; and what may happen to kernels: kills, pauses at any point, takeovers. It does not
double requests, and never breaks a bound that the venue declared: those have transcripts of their own.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from replay.testing.scripted_exchange import ScriptedOrder
from tests.scenarios.runner import World

Lines = list[str]
"""Lines of a script; `*` is the newest message in flight."""
LEGS = (
    "submit",
    "submit-answer",
    "cancel",
    "cancel-answer",
    "reports",
    "order",
    "order-answer",
    "snapshot",
    "snapshot-answer",
)
POINTS = ("at submit", "at cancel", "at order", "after AttemptStarted", "after AttemptUnknown")
QUANTITY = 5
INTENTS_MAX = 5


class Author:
    """One script."""

    def __init__(self, world: World, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = world
        self.leader = "K0"
        self.most_wanted: dict[str, int] = {}
        """The largest quantity that each intent ever had."""
        self._kernels = 0
        self._moves: dict[Callable[[], Lines], float] = {
            self.place: 4, self.cancel: 2, self.change: 2,
            self.hold: 5, self.flow: 3, self.deliver: 6, self.lose: 2, self.fail: 3, self.double_report: 1,
            self.fill: 3, self.end_order: 1.5, self.bust: 0.7, self.read_stale: 2,
            self.refuse: 1, self.cut: 0.5, self.partial: 0.5, self.heal: 3, self.disconnect: 0.7, self.relist: 1,
            self.time: 8, self.kill: 1, self.pause: 1.4, self.late_request: 3,
        }  # fmt: skip

    def opening(self) -> Lines:
        """The kind of venue, and the first kernel."""
        choose = self.random.choice
        lookup, dedupe = choose(("closed", "closed", "open", "no")), choose(("none", "while-open", "for-ever"))
        window, total = choose(("3s", "3s", "none")), choose(("yes", "yes", "no"))
        venue = f"venue lookup={lookup} dedupe={dedupe} window={window} lag=1s cancel-total={total}"
        return [f"settings workers={choose((1, 2, 8))}", venue, "start K0"]

    def move(self) -> Lines:
        """The next lines; none when the move drawn is not possible now."""
        (drawn,) = self.random.choices(list(self._moves), list(self._moves.values()))
        return drawn()

    # ------------------------------------------------------------------------------------------------------ commands
    def place(self) -> Lines:
        if len(self.most_wanted) >= INTENTS_MAX:
            return []
        intent_id = f"b{len(self.most_wanted) + 1}"
        self.most_wanted[intent_id] = QUANTITY
        return [f"place {intent_id} BUY {QUANTITY} @100{self.random.choice(('', ' recreate'))}"]

    def cancel(self) -> Lines:
        return [f"cancel {self.random.choice(sorted(self.most_wanted))}"] if self.most_wanted else []

    def change(self) -> Lines:
        state = self.world.running.kernel.state
        known = [name for name in sorted(self.most_wanted) if state.intent(name) is not None]
        if not known or state.position != self.world.recorder.head().position:
            return []
        intent_id, quantity = self.random.choice(known), self.random.randint(1, QUANTITY + 2)
        self.most_wanted[intent_id] = max(self.most_wanted[intent_id], quantity)
        return [f"change {intent_id} BUY {quantity} @{self.random.choice((100, 101))}"]

    # ------------------------------------------------------------------------------------------------------ the wire
    def hold(self) -> Lines:
        return [f"venue: hold {self.random.choice(LEGS)}"]

    def flow(self) -> Lines:
        return ["venue: flow"]

    def _one_of(self, verb: str, names: list[str], rest: str = "") -> Lines:
        return [f"venue: {verb} {self.random.choice(sorted(names))}{rest}"] if names else []

    def deliver(self) -> Lines:
        return self._one_of("deliver", [*self.world.exchange.wire, *self.world.exchange.reports])

    def lose(self) -> Lines:
        return self._one_of("lose", [*self.world.exchange.wire, *self.world.exchange.reports])

    def fail(self) -> Lines:
        return self._one_of("fail", list(self.world.exchange.wire), " connection reset")

    def late_request(self) -> Lines:
        """A request whose answer is lost, and that arrives late, within its validity or after it."""
        wait = self.random.choice((0.3, 1.5, 2.9, 3.5))
        end = self.random.choice((self.fill(), self.time(), []))
        lines = ["venue: hold submit", *(self.place() or self.change()), "venue: fail * connection reset"]
        return [*lines, "venue: flow submit", f"time +{wait}s", *end, "venue: deliver *"]

    def double_report(self) -> Lines:
        return self._one_of("double", list(self.world.exchange.reports))

    # ------------------------------------------------------------------------------------------------------ the venue
    def _open(self) -> list[ScriptedOrder]:
        return [order for order in self.world.exchange.truth if order.open]

    def fill(self) -> Lines:
        if not self._open():
            return []
        order = self.random.choice(self._open())
        return [f"venue: fill {order.id} {self.random.randint(1, order.order.quantity - order.cum_qty)}"]

    def end_order(self) -> Lines:
        verb = self.random.choice(("cancel", "expire"))
        return self._one_of(verb, [order.id for order in self._open()])

    def bust(self) -> Lines:
        """Only of an open order: a bust that reopens a filled one makes a second live order that no kernel can prevent."""
        trades = [f"{order.id} {trade.key}" for order in self._open() for trade in order.trades]
        busted = {key for order in self._open() for key in order.busted}
        return self._one_of("bust", [name for name in trades if name.split()[1] not in busted])

    def read_stale(self) -> Lines:
        """Queries lag, within what the venue declares, while things happen."""
        queries = self.random.choice(("order", "open", "trades", "open trades", "order open trades"))
        during = [*self.fill(), "time +0.45s"] if self.random.random() < 0.6 else [*self.deliver(), "time +0.9s"]
        return [f"venue: freeze {queries}", *during, "venue: thaw"]

    def refuse(self) -> Lines:
        return [self.random.choice(("venue: reject no funds", "venue: reject too many requests later=0.5s"))]

    def cut(self) -> Lines:
        return ["venue: cut"]

    def partial(self) -> Lines:
        return ["venue: partial"]

    def heal(self) -> Lines:
        return ["venue: heal", "venue: accept"]

    def disconnect(self) -> Lines:
        return ["venue: disconnect"]

    def relist(self) -> Lines:
        return [f"relist {self.leader}"]

    # ------------------------------------------------------------------------------------------------------ kernels
    def time(self) -> Lines:
        return [f"time +{self.random.choice((0.05, 0.5, 1, 2, 4, 7, 30))}s"]

    def _next_kernel(self) -> str:
        self._kernels += 1
        self.leader = f"K{self._kernels}"
        return self.leader

    def kill(self) -> Lines:
        killed = self.leader
        return [f"kill {killed}", f"start {self._next_kernel()}"]

    def pause(self) -> Lines:
        """Stop a process for a while, at once or at a point; another one may take over meanwhile."""
        paused = self.leader
        point = self.random.choice((*POINTS, ""))
        lines = [f"pause {paused} {point}".rstrip(), *(self.place() if point else []), *self.time()]
        if not point or self.random.random() < 0.5:
            lines += [f"takeover {self._next_kernel()}", *self.time()]
        return [*lines, f"resume {paused}"]

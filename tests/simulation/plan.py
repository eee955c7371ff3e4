"""The plan of one run: commands, faults and accidents, drawn from a seed or read from text.

Written by `from_seed`, read by the player and cut by the shrinker. A plan is a list of lines, so that a failing run can be
kept, read and played again without its seed:

    world dedupe=NONE window=3 lag=0.5 …     the venue's properties, and how kernels and log behave (see WORLD)
    fault submit i3 1 answer_lost 0.5        the first submit of i3 (its 2nd: 2) has this fault, for so many seconds
    at 1.25 A place i1 BUY 5 @9990 IOC       at this second a strategy at kernel A places this order
    at 1.5 A group g1 OCO S i2:BUY:5@9990 i3:SELL:5@10010    … or a group of contingent orders
    at 2.5 - trade S 9980 40                 … or this happens (`-`: at no kernel)

The property `venue` names the venue's personalities (see `personality`). The properties in `BYSTANDERS` are drawn for
half of the worlds. Both come from random streams of their own: the others do not change.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from kernel.venues.paper.faults import Fault, FaultKind, FaultOperation, operations_of
from tests.simulation import personality

COMMANDS = 200
LENGTH_S = 60.0
SYMBOLS = ("S", "T")
PRICE = 10_000
KERNELS = ("A", "B", "C")
MODES = ("OCO", "OUO", "OTO", "OTO", "NONE")
NOBODY = "-"

WORLD: dict[str, tuple[str, ...]] = {
    "dedupe": ("NONE", "WHILE_OPEN", "WHILE_OPEN", "FOR_EVER"),
    "dedupe-for": ("0", "0", "3"),  # seconds that an id is refused at least, once it was used
    "window": ("2", "4", "none"),  # seconds
    "lookup": ("closed", "closed", "open", "no"),
    "lag": ("0", "0.3", "1", "1"),  # seconds, the longest of the endpoints
    "lagging": ("all", "all", "order", "open_orders", "trades"),
    "amend": ("NONE", "NONE", "IN_PLACE", "IN_PLACE/REMAINING", "CANCEL_REPLACE", "CANCEL_REPLACE/loose"),
    "skew": ("0", "0", "0.2"),  # seconds between the clocks
    "cancel-total": ("yes", "yes", "no"),
    "latency": ("0", "0.02", "0.2"),  # seconds there, and back
    "rate": ("none", "8/told", "weighed/told", "8"),  # requests per second, or by weight; told: the kernels know
    "funds": ("plenty", "plenty", "scarce"),
    "commit": ("0", "0.002", "0.02"),  # seconds that a commit may take
    "lease": ("lock", "session"),  # kept by a paused process, or lost with its session
    "workers": ("1", "2", "8"),
    "kernels": ("1", "2", "3"),
    "timeout": ("0.5", "2"),  # seconds for an answer
    "faults": ("0", "0.02", "0.06", "0.15"),  # how probable a fault is, for each request and report
    "accidents": ("0", "1", "3"),  # how often kernels die and stand still
    "limits": ("none", "none", "tight"),  # what may be at stake before a command is refused
    "groups": ("kernel", "kernel", "venue"),  # who works them, where the venue can
}
"""The possible values of each property of a world; the seed chooses."""

BYSTANDERS: dict[str, tuple[str, ...]] = {
    "halts": ("no", "yes"),  # operators halt a symbol or all, and resume
    "foreign": (
        "no",
        "IGNORE",
        "ADOPT",
        "CANCEL",
    ),  # somebody else trades on the account, and what the kernels do about it
    "beats": ("no", "yes"),  # strategies say that they are alive, until they do not
    "operator": ("no", "yes"),  # somebody settles what nothing can prove
}
"""Properties about other actors. The first value is the default of a plan."""
OWNERS = ("m1", "m2", "m3")
FOREIGN_NAMES = ("-", "-", "web", "web", "kernel")
"""Client order ids of external orders: none, a person's, or like those of another log's kernel."""


@dataclass(frozen=True)
class Op:
    """One thing that happens."""

    at_s: float
    kernel: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join((f"at {self.at_s:.3f} {self.kernel}", *self.words))


@dataclass(frozen=True)
class Plan:
    """One run."""

    seed: int
    world: dict[str, str]
    ops: tuple[Op, ...]
    faults: dict[tuple[str, str, int], Fault] | None = None
    """Faults by operation, intent and number of earlier calls; empty: drawn from the seed."""

    def lines(self) -> list[str]:
        """The plan as text."""
        told = [" ".join(("world", f"seed={self.seed}", *(f"{key}={value}" for key, value in self.world.items())))]
        for (operation, subject, number), fault in (self.faults or {}).items():
            told.append(f"fault {operation} {subject or NOBODY} {number} {fault.kind} {fault.delay_ns / 1e9:g}")
        return [*told, *map(str, self.ops)]

    @staticmethod
    def parse(lines: Iterable[str]) -> Plan:
        """A plan from its text."""
        world: dict[str, str] = {}
        faults: dict[tuple[str, str, int], Fault] = {}
        ops: list[Op] = []
        for line in lines:
            verb, *words = line.split()
            match verb:
                case "world":
                    world = dict(word.split("=", 1) for word in words)
                case "fault":
                    operation, subject, number, kind, delay_s = words
                    key = (operation, "" if subject == NOBODY else subject, int(number))
                    faults[key] = made(operation, kind, float(delay_s))
                case "at":
                    ops.append(Op(float(words[0]), words[1], tuple(words[2:])))
                case _:
                    raise ValueError(f"a plan has lines of world, fault and at, not {verb!r}")
        return Plan(int(world.pop("seed")), world, tuple(ops), faults)


def made(operation: str, kind: str, delay_s: float) -> Fault:
    return Fault(kind=FaultKind(kind), operation=FaultOperation(operation), delay_ns=round(delay_s * 1e9))


DELAYS_S = (0.01, 0.1, 0.5, 1.0, 2.5, 6.0)
"""How late something comes, apart from just in time."""
UNLUCKY_SHARE = 0.15
"""Share of intents with many faults at once: lost answers with lost reports, and failing queries."""
UNLUCKY_RATE = 0.5
KINDS: dict[str, tuple[FaultKind, ...]] = {
    operation.value: tuple(kind for kind in FaultKind if operation in operations_of(kind))
    for operation in FaultOperation
}


def drawn_fault(plan: Plan, operation: str, subject: str, number: int) -> Fault | None:
    """The plan's fault for a request or a report: a pure function of its arguments."""
    if plan.faults is not None:
        return plan.faults.get((operation, subject, number))
    rate = float(plan.world["faults"])
    if not rate:
        return None
    if random.Random(f"{plan.seed}/{subject}").random() < UNLUCKY_SHARE:
        rate = UNLUCKY_RATE
    chance = random.Random(f"{plan.seed}/{operation}/{subject}/{number}")
    if chance.random() >= rate:
        return None
    kind = chance.choice(KINDS[operation])
    delay_s = chance.choice((*DELAYS_S, *[just_in_time_s(plan)] * 2))
    if kind is FaultKind.UNSOLICITED_CANCEL and chance.random() < 0.5:
        delay_s = 0.0
    return made(operation, kind.value, delay_s)


def just_in_time_s(plan: Plan) -> float:
    """The latest delay at which a request is still accepted: no query shows it until then."""
    window = plan.world["window"]
    return round((2 if window == "none" else float(window)) - float(plan.world["latency"]) - 0.15, 3)


def from_seed(seed: int, *, commands: int = COMMANDS, venue: Sequence[str] = ()) -> Plan:
    """The plan of a seed; with `venue`, at a venue with these personalities."""
    chance = random.Random(seed)
    world = {key: chance.choice(values) for key, values in WORLD.items()}
    author = _Author(chance, world)
    ops = [Op(0.0, name, ("start",)) for name in author.kernels]
    at_s = 0.0
    for _ in range(commands):
        at_s += chance.expovariate(commands / LENGTH_S)
        ops.append(author.command(at_s))
    ops += author.events(at_s)
    bystanders = _Bystanders(random.Random(f"{seed}/bystanders"), world, author.kernels, at_s, seed)
    ops = bystanders.among(ops)
    world["venue"], events = personality.drawn(seed, at_s, venue)
    ops = [*ops, *(Op(when_s, kernel, words) for when_s, kernel, words in events)]
    return Plan(seed, world, tuple(sorted(ops, key=lambda op: op.at_s)))


@dataclass
class _Author:
    chance: random.Random
    world: dict[str, str]
    placed: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    groups: int = 0
    kernels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.kernels = KERNELS[: int(self.world["kernels"])]

    def command(self, at_s: float) -> Op:
        """The next command of a strategy, at any kernel."""
        chance = self.chance
        verbs = {
            "place": 26, "group": 4, "cancel": 18, "read": 18, "retry": 8, "change": 5, "modify": 9, "force": 2,
            "watch": 1.5, "cancel-all": 0.4,
        }  # fmt: skip
        (verb,) = chance.choices(list(verbs), list(verbs.values()))
        if verb == "group":
            words = self.group()
        elif verb == "place" or not self.placed:
            words = self.place()
        elif verb == "cancel-all":
            words = (verb, chance.choice(SYMBOLS))
        elif verb == "watch":
            words = (verb, chance.choice(("start", "now")))
        else:
            intent_id, order = self.chosen()
            words = (verb, intent_id)
            if verb == "retry":
                words = ("place", intent_id, *order)
            elif verb in ("change", "modify"):
                words = (verb, intent_id, str(chance.randint(1, 12)), self.price(order[1]))
            elif verb == "cancel":
                words = (verb, intent_id, *chance.choice(((), ("recorded",))))
        return Op(round(at_s, 3), chance.choice(self.kernels), words)

    def chosen(self) -> tuple[str, tuple[str, ...]]:
        """Mostly one of the newest, as strategies do."""
        newest = self.placed[-8:] if self.chance.random() < 0.7 else self.placed
        return self.chance.choice(newest)

    def place(self) -> tuple[str, ...]:
        chance = self.chance
        side = chance.choice(("BUY", "SELL"))
        extra: list[str] = chance.choice(([], [], [], [], ["IOC"], ["FOK"], ["MARKET"], ["post"]))
        extra = extra + chance.choice(([], [], ["recreate"])) + chance.choice(([], ["recorded"]))
        order = (chance.choice(SYMBOLS), side, str(chance.randint(1, 10)), self.price(side), *extra)
        intent_id = f"i{len(self.placed) + 1}"
        self.placed.append((intent_id, order))
        return ("place", intent_id, *order)

    def group(self) -> tuple[str, ...]:
        """Orders that depend on each other: two sides of the market, two prices of one, or an entry and its exits."""
        chance = self.chance
        mode, symbol_id = chance.choice(MODES), chance.choice(SYMBOLS)
        side = chance.choice(("BUY", "SELL"))
        other = "SELL" if side == "BUY" else "BUY"
        sides = [side, *[chance.choice((side, other))] * chance.choice((1, 1, 2))]
        if mode == "OTO":
            sides = [side, *[other] * chance.choice((1, 2, 2))]
        whole = chance.randint(1, 10)
        members = []
        for each in sides:
            quantity = str(whole if chance.random() < 0.7 else chance.randint(1, 10))
            order = (symbol_id, each, quantity, self.price(each))
            self.placed.append((f"i{len(self.placed) + 1}", order))
            members.append(f"i{len(self.placed)}:{each}:{quantity}{order[3]}")
        self.groups += 1
        extra = (*chance.choice(((), (), ("recreate",))), *chance.choice(((), ("recorded",))))
        return ("group", f"g{self.groups}", mode, symbol_id, *members, *extra)

    def price(self, side: str) -> str:
        """Mostly behind the market, sometimes across it."""
        away = self.chance.choice((-20, -5, 0, 5, 10, 20, 50, 100))
        return f"@{PRICE - away if side == 'BUY' else PRICE + away}"

    def events(self, length_s: float) -> list[Op]:
        """Events of the market, the venue and the machines."""
        ops: list[Op] = []
        for words, how_often in self.happenings():
            for _ in range(self.times(how_often)):
                ops += [Op(round(self.chance.uniform(0, length_s), 3), NOBODY, words())]
        for _ in range(self.times(float(self.world["accidents"]) * 2)):
            ops += self.accident(round(self.chance.uniform(0, length_s), 3))
        return ops

    def times(self, mean: float) -> int:
        """How often something happens that happens so often on average."""
        return sum(self.chance.random() < mean / 8 for _ in range(8)) if mean < 4 else round(mean)

    def happenings(self) -> list[tuple[Callable[[], tuple[str, ...]], float]]:
        chance = self.chance
        rough = float(self.world["faults"]) > 0

        def symbol() -> str:
            return chance.choice(SYMBOLS)

        def trade() -> tuple[str, ...]:
            return (
                "trade",
                symbol(),
                str(PRICE + chance.choice((-60, -21, -6, -1, 1, 6, 21, 60))),
                str(chance.randint(1, 30)),
            )

        def other() -> tuple[str, ...]:
            side = chance.choice(("BUY", "SELL"))
            return ("other", symbol(), side, str(chance.randint(1, 20)), self.price(side))

        def correct() -> tuple[str, ...]:
            return (
                "correct",
                str(chance.randrange(100)),
                str(chance.choice((-3, 3))),
                str(chance.choice((0, 0, -1, 1))),
            )

        mild = 1.0 if rough else 0.3
        return [
            (trade, 30.0), (other, 8.0),
            (lambda: ("end", str(chance.randrange(100))), 1.5 * mild),
            (lambda: ("bust", str(chance.randrange(100))), 1.0 * mild),
            (correct, 0.7 * mild),
            (lambda: ("halt", symbol(), str(chance.choice((0.5, 2, 4)))), 0.8 * mild),
            (lambda: ("tick", symbol(), str(chance.choice((1, 5, 7)))), 0.3 * mild),
            (lambda: ("disconnect",), 1.0 * mild),
            (lambda: ("relist", chance.choice(self.kernels)), 1.0),
        ]  # fmt: skip

    def accident(self, at_s: float) -> list[Op]:
        """A kernel is killed or stopped, at once, after some steps, or before a write; or the log fails it."""
        chance = self.chance
        name = chance.choice(self.kernels)
        where = chance.choice((("now",), ("after", str(chance.randint(1, 400))), ("wire",), ("wire",), ("commit",)))
        back_s = round(at_s + chance.choice((0.05, 1, 5)), 3)
        kind = chance.choice(("kill", "kill", "pause", "pause", "lease", "outage", "unsure"))
        if kind == "kill":
            return [Op(at_s, name, ("kill", *where)), Op(back_s, name, ("start",))]
        if kind == "pause":
            return [Op(at_s, name, ("pause", str(chance.choice((0.3, 2, 6, 15))), *where))]
        if kind == "lease":
            return [Op(at_s, NOBODY, ("lease",))]
        if kind == "outage":
            return [Op(at_s, NOBODY, ("outage", str(chance.choice((0.2, 2, 5)))))]
        return [Op(at_s, name, ("unsure", str(chance.randint(1, 3))))]


@dataclass
class _Bystanders:
    """Writes into a plan what others than its strategies do. Draws from a chance of its own."""

    chance: random.Random
    world: dict[str, str]
    kernels: tuple[str, ...]
    length_s: float
    seed: int

    def __post_init__(self) -> None:
        some = self.chance.random() < 0.5
        for key, values in BYSTANDERS.items():
            self.world[key] = self.chance.choice(values) if some else values[0]
        if self.world["operator"] == "yes" and self.chance.random() < 0.7:  # so that there is something to settle
            self.world["window"] = "none"
            self.world["faults"] = self.chance.choice(("0.06", "0.15"))

    def among(self, ops: list[Op]) -> list[Op]:
        """All that happens, theirs and what happens anyhow."""
        if self.world["halts"] == "yes":
            ops = [*ops, *self.halts()]
        if self.world["foreign"] != "no":
            ops = [*ops, *self.foreign_hand()]
        if self.world["beats"] == "yes":
            ops = [*map(self.owned, ops), *(op for owner in OWNERS for op in self.beats(owner))]
        if self.world["operator"] == "yes":
            ops = [*ops, *self.operator()]
        return ops

    def some_time(self) -> float:
        return round(self.chance.uniform(0, self.length_s), 3)

    def at(self, at_s: float, *words: str) -> Op:
        """At any kernel."""
        return Op(round(at_s, 3), self.chance.choice(self.kernels), words)

    def halts(self) -> list[Op]:
        """Halts, most of them resumed."""
        ops = []
        for _ in range(self.chance.randint(2, 4)):
            what, at_s = self.chance.choice(("all", *SYMBOLS, *SYMBOLS)), self.some_time()
            ops.append(self.at(at_s, "halt", what))
            if self.chance.random() < 0.8:
                ops.append(self.at(at_s + self.chance.choice((0.1, 1, 4, 12)), "resume", what))
        return ops

    def foreign_hand(self) -> list[Op]:
        """Orders on the account that no kernel placed, and what becomes of some."""
        chance = self.chance
        ops = []
        for number in range(chance.randint(5, 12)):
            side = chance.choice(("BUY", "SELL"))
            away = chance.choice((-20, -5, 0, 5, 10, 20, 50, 100))
            price = f"@{PRICE - away if side == 'BUY' else PRICE + away}"
            name = {"-": "-", "web": f"web_{number}"}.get(
                chance.choice(FOREIGN_NAMES), f"{'abcdefgh' * 2}{'bcdefghijklm'[number]}"
            )
            extra = chance.choice(((), (), (), ("IOC",)))
            terms = (chance.choice(SYMBOLS), side, str(chance.randint(1, 10)), price, *extra)
            ops.append(Op(self.some_time(), NOBODY, ("foreign", name, *terms)))
        taken_back = [str(chance.randrange(100)) for _ in range(chance.randint(0, 3))]
        ops += [Op(self.some_time(), NOBODY, ("foreign-cancel", which)) for which in taken_back]
        for _ in range(chance.randint(0, 4)):
            verb = chance.choice(("cancel", "modify", "read"))
            ops.append(
                self.at(self.some_time(), "adopted", verb, str(chance.randrange(100)), str(chance.randint(1, 12)))
            )
        return ops

    def owned(self, op: Op) -> Op:
        """An order with a strategy that it belongs to; the same each time."""
        if op.words[0] not in ("place", "group"):
            return op
        owner = random.Random(f"{self.seed}/{op.words[1]}").choice(("", *OWNERS))
        return op if not owner else Op(op.at_s, op.kernel, (*op.words, f"owner={owner}"))

    def beats(self, owner: str) -> list[Op]:
        """The heartbeats of one strategy, with gaps."""
        chance = self.chance
        ttl_s = chance.choice((2, 4, 8))
        at_s, ops = chance.uniform(0, self.length_s / 2), []
        for _ in range(chance.randint(1, 3)):
            home = chance.choice(self.kernels)  # it speaks to one kernel, as a strategy does
            until_s = at_s + chance.uniform(0.5, 4) * ttl_s
            while at_s < min(until_s, self.length_s):
                ops.append(Op(round(at_s, 3), home, ("beat", owner, str(ttl_s))))
                at_s += ttl_s * chance.uniform(0.2, 0.5)
            if chance.random() < 0.2:
                ops.append(self.at(min(at_s, self.length_s), "disarm", owner))
            at_s += ttl_s * chance.uniform(0.3, 4)
        return ops

    def operator(self) -> list[Op]:
        """Manual resolutions, most when nothing else can prove the outcome, some too early; and closed findings."""
        ops = [self.at(self.some_time(), "resolve") for _ in range(8)]
        ops += [self.at(self.some_time(), "resolve-early") for _ in range(8)]
        return ops + [self.at(self.some_time(), "resolve-finding", str(self.chance.randrange(100))) for _ in range(3)]

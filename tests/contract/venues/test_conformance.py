"""The conformance kit: the paper exchange passes it whole and with abilities taken away, and a false claim fails it."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tomllib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

import pytest
from msgspec import structs
from msgspec.structs import replace

from kernel.errors import Rejected, ValidationError
from kernel.order_spec import OrderType, TimeInForce
from kernel.venues import PaperVenue
from kernel.venues.base import AmendDialect, Dedupe, ExecutionReport, SubmitRequest, Venue, VenueCapabilities
from kernel.venues.paper.matching.config import PaperConfig, full_symbols
from replay.cli.help import topic_text
from replay.testing.conformance import test_orders, test_port
from replay.testing.conformance.abilities import ABILITIES
from replay.testing.conformance.bench import CLOCK, Bench
from replay.testing.conformance.forwarding_venue import ForwardingVenue
from replay.testing.conformance.kit import Body, Kit
from replay.testing.conformance.reduced_venue import REMOVED, ReducedVenue
from replay.testing.conformance.target import KitConfig, Target, Waiver, opened_target, read_config
from tests.cli.documents import fenced
from tests.cli.world import clean_environment

TAKEN_AWAY = {
    "no status query": ("lookup",),
    "no client ids on trades": ("trades_carry_client_id",),
    "no lists": ("lists_open_orders", "lists_trades", "lists_balances"),
    "polling only": ("stream",),
    "no amend": ("amend",),
    "no client ids": ("client_order_ids",),
}
TIMEOUT_S = 900
pytestmark = pytest.mark.xdist_group("conformance")  # it starts processes: one test at a time
TODAY = date(2026, 11, 30)


def run_kit(directory: Path, *removed: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the kit as an author of an adapter does, outside of this project."""
    names = ", ".join(f'"{name}"' for name in removed)
    config = directory / "kit.toml"
    config.write_text(
        f"[conformance]\nremove = [{names}]\ntimeout_s = 120\n"
        '[venue]\namend = "IN_PLACE"\nvalidity_window_ns = 3000000000\n'
    )
    words = ["--pyargs", "replay.testing.conformance", "--venue", "paper", "--config", str(config), "-q"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *words, "-p", "no:cacheprovider", *options],
        cwd=directory, env=clean_environment(), capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
    )  # fmt: skip


def test_the_paper_exchange_passes_whole(tmp_path: Path) -> None:
    """Every case passes, nothing is lacking, and JUnit has the rows of the matrix."""
    done = run_kit(tmp_path, options=("--junitxml", "junit.xml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Not guaranteed" not in done.stdout
    properties = [item.get("name") for item in ElementTree.parse(tmp_path / "junit.xml").iter("property")]
    assert properties.count("conformance") > 35


@pytest.mark.nightly
@pytest.mark.parametrize(
    "removed",
    [*itertools.combinations(TAKEN_AWAY, 1), *itertools.combinations(TAKEN_AWAY, 2)],
    ids=lambda removed: ", ".join(removed),
)
def test_abilities_can_be_missing(tmp_path: Path, removed: tuple[str, ...]) -> None:
    """Without abilities, the matrix names what cannot be guaranteed, and nothing else breaks."""
    names = [name for what in removed for name in TAKEN_AWAY[what]]
    done = run_kit(tmp_path, *names)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in set(names) - {"stream"}:
        assert f"  {name}: without it, " in done.stdout


class Liar(ForwardingVenue):
    """A venue that claims other abilities than it has."""

    def __init__(self, inner: Venue, claims: Mapping[str, object], refuses: str) -> None:
        super().__init__(inner)
        self._claims, self._refuses = claims, refuses

    @property
    def capabilities(self) -> VenueCapabilities:
        return structs.replace(self.inner.capabilities, **self._claims)

    async def submit(self, request: SubmitRequest) -> ExecutionReport:
        if self._refuses in (request.order.order_type, request.order.time_in_force):
            raise Rejected("no such orders")
        return await super().submit(request)


class LyingTarget(Target, frozen=True):
    """An adapter that claims other abilities than it has."""

    claims: Mapping[str, object] = {}
    refuses: str = ""

    def venue(self) -> Venue:
        return Liar(Target.venue(self), self.claims, self.refuses)


@dataclass
class Recorder:
    """Keeps the case that observes each ability."""

    bodies: dict[str | None, Body] = field(default_factory=dict)

    def run(self, case_id: str, level: int, what: str, ability: str | None, body: Body) -> None:
        self.bodies[ability] = body


def observers() -> dict[str | None, Body]:
    """Return the case that observes each ability."""
    recorder = Recorder()
    for test in [*vars(test_port).values(), *vars(test_orders).values()]:
        if not getattr(test, "__name__", "").startswith("test_"):
            continue
        marks = getattr(test, "pytestmark", [])
        for values in [(value,) for mark in marks for value in mark.args[1]] or [()]:
            test(recorder, *values)
    return recorder.bodies


KINDS = (*OrderType, *TimeInForce)
CLAIMS: dict[str, dict[str, object]] = {
    **{name: changes for name, changes in REMOVED.items() if name != "stream"},
    "dedupe": {"dedupe": Dedupe.NONE},
    "validity_window": {"validity_window_ns": None},
    **{kind: {"order_types": frozenset(OrderType) - {kind}} for kind in OrderType},
    **{kind: {"times_in_force": frozenset(TimeInForce) - {kind}} for kind in TimeInForce},
}
"""The capabilities that an adapter without each ability declares."""
OPTIONS: dict[str, dict[str, object]] = {
    "dedupe": {"dedupe": "NONE"},
    "validity_window": {"validity_window_ns": None},
}
"""Options of a paper exchange without an ability that an adapter cannot take away."""


def test_each_ability_is_observed() -> None:
    """A case observes each ability."""
    assert observers().keys() - {None} == ABILITIES.keys() == CLAIMS.keys()


@pytest.mark.nightly
@pytest.mark.parametrize("lie", ["claims", "does not claim"])
@pytest.mark.parametrize("ability", sorted(CLAIMS))
def test_every_false_claim_fails(tmp_path: Path, ability: str, lie: str) -> None:
    """The case of an ability fails if it is claimed and absent, and if it is there and not claimed."""
    absent = lie == "claims"
    options = {"amend": "IN_PLACE", **(OPTIONS.get(ability, {}) if absent else {})}
    removed = frozenset({ability} & REMOVED.keys() if absent else ())
    config = KitConfig(sandbox=True, timeout_s=2, venue=options, remove=removed)
    honest = PaperConfig(symbols=full_symbols(), amend=AmendDialect.IN_PLACE).capabilities()
    claims = {name: getattr(honest, name) for name in CLAIMS[ability]} if absent else CLAIMS[ability]
    refuses = ability if absent and ability in KINDS else ""
    with opened_target("paper", config) as opened:
        target = LyingTarget("paper", config, opened.address, claims, refuses)
        checked = Kit(target, tmp_path, TODAY, properties=[])
        with pytest.raises(AssertionError, match=r"observed: |^the "):
            checked.run("X-01", 2, "what", ability, observers()[ability])
    (row,) = [value for _, value in checked.properties if isinstance(value, dict)]
    assert (row["claim"], row["result"]) == ("yes" if absent else "no", "failed")


@pytest.mark.parametrize("name", sorted(REMOVED))
def test_each_ability_can_be_removed(name: str) -> None:
    """What is removed is no longer declared."""
    reduced = ReducedVenue(PaperVenue(tape=(), symbol="BTCUSDT", speed="step"), frozenset({name}))
    for item, value in REMOVED[name].items():
        assert getattr(reduced.capabilities, item) == value


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """A paper exchange that changes no orders."""
    with opened_target("paper", KitConfig(sandbox=True)) as opened:
        yield opened


def kit(target: Target, scratch: Path, *waivers: Waiver) -> Kit:
    config = target.config.model_copy(update={"waivers": waivers})
    return Kit(replace(target, config=config), scratch, TODAY, properties=[])


async def there(bench: Bench) -> bool:
    return True


async def not_there(bench: Bench) -> bool:
    return False


@pytest.mark.parametrize(
    ("ability", "body", "words"),
    [("lookup", not_there, "claims lookup; observed: no"), ("amend", there, "does not claim amend; observed: yes")],
)
def test_a_false_claim_fails(
    target: Target, tmp_path: Path, ability: str, body: Callable[[Bench], Awaitable[bool]], words: str
) -> None:
    """An ability that is claimed and absent fails, and so does one that is there and not claimed."""
    checked = kit(target, tmp_path)
    with pytest.raises(AssertionError, match=words):
        checked.run("X-01", 2, "what", ability, body)
    assert [row["result"] for _, row in checked.properties if isinstance(row, dict)] == ["failed"]


def test_a_lacking_ability_is_no_failure(target: Target, tmp_path: Path) -> None:
    """An ability that is neither claimed nor there is named by the matrix."""
    checked = kit(target, tmp_path)
    checked.run("X-01", 2, "what", "amend", not_there)
    assert [row["result"] for _, row in checked.properties if isinstance(row, dict)] == ["lacks"]


@pytest.mark.parametrize(("expires", "error"), [(TODAY, pytest.xfail.Exception), (date(2026, 11, 29), AssertionError)])
def test_a_waiver_ends(target: Target, tmp_path: Path, expires: date, error: type[BaseException]) -> None:
    """A waived case is expected to fail until the waiver's last day; after it, it fails."""
    waiver = Waiver(case="X-01", reason="known", expires=expires)
    with pytest.raises(error, match="known"):
        kit(target, tmp_path, waiver).run("X-01", 2, "what", "lookup", not_there)


@pytest.mark.parametrize("claims", [{}, {"lists_open_orders": False}], ids=["lists", "no lists"])
def test_no_order_is_left(target: Target, tmp_path: Path, claims: dict[str, object]) -> None:
    """A case that fails leaves no order open, of its kernel neither; another order of the account is not touched."""
    lying = LyingTarget("paper", target.config, target.address, claims)
    others = PaperVenue(target.address)

    async def fails(bench: Bench) -> None:
        await others.connect()
        await others.submit(SubmitRequest(client_order_id="another", order=bench.order(), stamp_ns=CLOCK.now_ns()))
        await bench.submit()
        async with bench.kernel() as kernel:
            await kernel.place_order(bench.order(), intent_id="a")
            raise AssertionError("the case failed")

    async def left(bench: Bench) -> None:
        names = [item.client_order_id for item in (await bench.snapshot()).open_orders]
        await bench.venue.cancel(bench.cancel_request("another", None))
        assert names == ["another"]

    with pytest.raises(AssertionError, match="the case failed"):
        kit(lying, tmp_path).run("X-01", 2, "what", None, fails)
    kit(target, tmp_path).run("X-02", 2, "what", None, left)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[conformance]\nremove = ["everything"]', "everything cannot be removed"),
        ("[conformance]\nquantity = 0", "quantity"),
        ("[[waivers]]\ncase = 'O-07'\nexpires = 2027-01-01", "reason"),
        ("nonsense", "not valid"),
    ],
)
def test_a_bad_configuration_is_refused(tmp_path: Path, content: str, words: str) -> None:
    """The error names the file and what is wrong."""
    path = tmp_path / "kit.toml"
    path.write_text(content)
    with pytest.raises(ValidationError, match=words) as refused:
        read_config(str(path), name="paper")
    assert "kit.toml" in str(refused.value)


@pytest.mark.parametrize(
    ("venue", "content", "words"),
    [
        ("paper", "[conformance]\nsandbox = false\n", "--live"),
        ("unheard-of", "[conformance]\nsandbox = true\n", "no venue is called unheard-of"),
    ],
)
def test_nothing_runs_without_a_venue(tmp_path: Path, venue: str, content: str, words: str) -> None:
    """Real money without `--live`, or an adapter that cannot be made, ends the run at once with one line."""
    config = tmp_path / "kit.toml"
    config.write_text(content)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--pyargs", "replay.testing.conformance", "--venue", venue, "--config",
         str(config), "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode != 0
    assert words in done.stdout.splitlines()[-1]


def test_the_help_topic_is_true() -> None:
    """It names every ability that can be removed, and its configuration is valid."""
    text = topic_text("conformance")
    for name in REMOVED:
        assert f"`{name}`" in text
    (example,) = fenced(text, "toml")
    found = tomllib.loads(example)
    assert KitConfig.model_validate(found.pop("conformance") | found).waivers[0].case == "O-07"

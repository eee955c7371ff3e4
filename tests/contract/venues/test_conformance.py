"""The conformance kit: the paper exchange passes it whole and with abilities taken away, and a false claim fails it."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tomllib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kernel.errors import ValidationError
from kernel.venues import PaperVenue
from replay.cli.help import topic_text
from replay.testing.conformance.bench import Bench
from replay.testing.conformance.kit import Kit
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
}
TIMEOUT_S = 900
TODAY = date(2026, 11, 30)


def run_kit(directory: Path, *removed: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the kit as an author of an adapter does, outside of this project."""
    names = ", ".join(f'"{name}"' for name in removed)
    config = directory / "kit.toml"
    config.write_text(
        f'[conformance]\nremove = [{names}]\n[venue]\namend = "IN_PLACE"\nvalidity_window_ns = 1000000000\n'
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


@pytest.mark.parametrize("name", sorted(REMOVED))
def test_each_ability_can_be_removed(name: str) -> None:
    """What is removed is no longer declared."""
    reduced = ReducedVenue(PaperVenue(tape=(), symbol="BTCUSDT", speed="step"), frozenset({name}))
    for field, value in REMOVED[name].items():
        assert getattr(reduced.capabilities, field) == value


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


def test_no_order_is_left(target: Target, tmp_path: Path) -> None:
    """A case that fails with an order open leaves none behind."""

    async def fails(bench: Bench) -> None:
        await bench.submit()
        raise AssertionError("the case failed")

    async def none_is_open(bench: Bench) -> None:
        assert (await bench.snapshot()).open_orders == ()

    with pytest.raises(AssertionError, match="the case failed"):
        kit(target, tmp_path).run("X-01", 2, "what", None, fails)
    kit(target, tmp_path).run("X-02", 2, "what", None, none_is_open)


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


def test_real_money_needs_live(tmp_path: Path) -> None:
    """An account that is not declared to be a sandbox is refused without `--live`, before anything is sent."""
    config = tmp_path / "kit.toml"
    config.write_text("[conformance]\nsandbox = false\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--pyargs", "replay.testing.conformance", "--venue", "paper", "--config",
         str(config), "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode != 0
    assert "--live" in done.stdout


def test_the_help_topic_is_true() -> None:
    """It names every ability that can be removed, and its configuration is valid."""
    text = topic_text("conformance")
    for name in REMOVED:
        assert f"`{name}`" in text
    (example,) = fenced(text, "toml")
    found = tomllib.loads(example)
    assert KitConfig.model_validate(found.pop("conformance") | found).waivers[0].case == "O-07"

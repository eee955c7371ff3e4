"""The pytest plugin of the conformance kit: its options, the adapter under test, and the matrix at the end.

Found by pytest's entry points, so every pytest loads it: the kit itself is imported when a case asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from replay.testing.conformance.kit import Kit
    from replay.testing.conformance.target import KitConfig, Target

CELL_MAX = 100
COLUMNS = ("case", "level", "what", "claim", "observed", "result")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("exchange-kernel", "conformance of a venue adapter")
    group.addoption("--venue", metavar="NAME", help="The adapter: an entry point of exchange_kernel.venues, or paper.")
    group.addoption("--config", metavar="FILE.toml", help="The kit's configuration and the adapter's options.")
    group.addoption("--live", action="store_true", help="Use an account that is not declared to be a sandbox.")


@pytest.fixture(scope="session")
def conformance_config(pytestconfig: pytest.Config) -> KitConfig:
    """The configuration; a venue with real money is refused without `--live`."""
    from kernel.errors import ValidationError
    from replay.testing.conformance.target import read_config

    name = pytestconfig.getoption("--venue")
    if name is None:
        pytest.exit("--venue NAME is missing: the adapter to check, such as paper", pytest.ExitCode.USAGE_ERROR)
    try:
        config = read_config(pytestconfig.getoption("--config"), name=name)
    except ValidationError as problem:
        pytest.exit(str(problem), pytest.ExitCode.USAGE_ERROR)
    if not config.sandbox and not pytestconfig.getoption("--live"):
        pytest.exit(
            "the account is not declared to be a sandbox: set `sandbox = true`, or give --live",
            pytest.ExitCode.USAGE_ERROR,
        )
    return config


@pytest.fixture(scope="session")
def conformance_target(pytestconfig: pytest.Config, conformance_config: KitConfig) -> Iterator[Target]:
    """The adapter under test."""
    from replay.testing.conformance.target import opened_target

    name = pytestconfig.getoption("--venue")
    with opened_target(name, conformance_config) as target:
        try:
            target.venue()
        except Exception as problem:
            pytest.exit(f"the adapter {name} cannot be made: {problem!r}", pytest.ExitCode.USAGE_ERROR)
        yield target


@pytest.fixture
def conformance_kit(request: pytest.FixtureRequest, tmp_path: Path, conformance_target: Target) -> Kit:
    """The environment of a case."""
    from replay.testing.conformance.kit import Kit

    return Kit(
        target=conformance_target,
        scratch=tmp_path,
        today=datetime.now(UTC).date(),
        properties=request.node.user_properties,
    )


def rows_of(terminalreporter: Any) -> list[dict[str, Any]]:
    """Return the rows of all cases, by id; reports come from other processes with pytest-xdist."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    properties = [item for report in reports for item in getattr(report, "user_properties", ())]
    rows = {value["case"]: value for name, value in properties if name == "conformance"}
    return sorted(rows.values(), key=lambda row: (row["level"], row["case"]))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the matrix, claim by observation, and what cannot be guaranteed."""
    rows = rows_of(terminalreporter)
    if not rows:
        return
    from replay.testing.conformance.abilities import ABILITIES

    cells = [
        [str(row[name])[:CELL_MAX] for name in COLUMNS] for row in ({name: name.upper() for name in COLUMNS}, *rows)
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    terminalreporter.section("conformance")
    for line in cells:
        terminalreporter.line("  ".join(map(str.ljust, line, widths)).rstrip())
    lacking = [row["ability"] for row in rows if row["claim"] == "no" and row["result"] in ("lacks", "skipped")]
    if lacking:
        terminalreporter.line("")
        terminalreporter.line("Not guaranteed at this venue:")
    for name in lacking:
        terminalreporter.line(f"  {name}: without it, {ABILITIES[name].without}")

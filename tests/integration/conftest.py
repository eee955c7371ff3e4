"""Fixtures of the integration tests."""

from __future__ import annotations

from pathlib import Path

import pytest

FIRST_ON_SQLITE = pytest.mark.parametrize(
    "log_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.nightly)], indirect=True
)
FIRST_ON_POSTGRESQL = pytest.mark.parametrize(
    "log_url", [pytest.param("sqlite", marks=pytest.mark.nightly), "postgresql"], indirect=True
)
"""For long tests: on one database by default, on the other one nightly."""


@pytest.fixture(params=["sqlite", "postgresql"])
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A log that several processes share."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/kernel.db"
    url: str = request.getfixturevalue("postgres_url")
    return url

"""Fixtures of the integration tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["sqlite", "postgresql"])
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A log that several processes share."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/kernel.db"
    url: str = request.getfixturevalue("postgres_url")
    return url

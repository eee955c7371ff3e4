"""Repetitions of a test that run nightly."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import pytest


def after_the_first(count: int, values: Iterable[Any]) -> list[Any]:
    """Parameters of which the first `count` are tested by default, the others nightly."""
    found = iter(values)
    return [*islice(found, count), *(pytest.param(value, marks=pytest.mark.nightly) for value in found)]

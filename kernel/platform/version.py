"""The version of this software: its release, what a fold gives, and the build that runs.

`KernelStarted` records the release and the build. Checkpoints and SQL tables carry the fold version: a checkpoint of
another fold version is discarded and the log folded from its beginning, tables of another one are rebuilt before they are
filled on. `tests/golden/test_fold_version.py` fails until `FOLD_VERSION` is raised together with a change of what a fold
gives.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

FOLD_VERSION: int = 1
"""Raised by one whenever a fold of some log gives another state, other rows of the SQL tables, or another checkpoint."""
PACKAGES = ("kernel", "projections", "replay")


def kernel_version() -> str:
    """The installed version; `0+unknown` when run from a checkout that was never installed."""
    try:
        return metadata.version("exchange-kernel")
    except metadata.PackageNotFoundError:
        return "0+unknown"


def fold_version() -> str:
    """`FOLD_VERSION` as checkpoints and SQL tables store it, in their field `code_hash`."""
    return f"fold-{FOLD_VERSION}"


@cache
def build_hash() -> str:
    """Identify the code that runs, for an auditor: two installations with the same hash run the same source.

    Returns:
        SHA-256 in hex over the names and bytes of every source file of the packages, as they are installed. A release that
        was changed in place has another hash than the release.
    """
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for file in sorted(file for package in PACKAGES for file in (root / package).rglob("*.py")):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(root).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()

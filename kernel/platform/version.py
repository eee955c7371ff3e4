"""Versions of this software: the release, the fold and the build.

`KernelStarted` records release and build. Checkpoints and SQL tables of another fold version are discarded and rebuilt.
`tests/golden/test_fold_version.py` fails if a fold gives another result under the same `FOLD_VERSION`.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

FOLD_VERSION: int = 3
"""Raise it by one with each change that makes a fold give another state, other SQL rows or another checkpoint."""
PACKAGES = ("kernel", "projections", "replay")


def kernel_version() -> str:
    """Return the installed release; `0+unknown` in a checkout that was never installed."""
    from importlib import metadata  # costs more than all else here, and reading a log needs no release

    try:
        return metadata.version("exchange-kernel")
    except metadata.PackageNotFoundError:
        return "0+unknown"


def fold_version() -> str:
    """Return `FOLD_VERSION` as checkpoints and SQL tables store it in `code_hash`."""
    return f"fold-{FOLD_VERSION}"


@cache
def build_hash() -> str:
    """Return SHA-256 in hex over the names and bytes of all installed source files: equal hashes run equal code."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for file in sorted(file for package in PACKAGES for file in (root / package).rglob("*.py")):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(root).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()

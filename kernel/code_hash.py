"""Which software this is: its version, and a hash of the code that folds and decides.

Recorded in `KernelStarted`, so that whoever replays knows whether the same code reads what was written.
"""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

PURE_CODE = ("order_spec.py", "models.py", "events", "plan.py", "settlement.py", "silence.py", "lifecycle")
"""What decides and folds, relative to this package."""


def kernel_version() -> str:
    """The installed version; `0+unknown` when run from a checkout that was never installed."""
    try:
        return metadata.version("exchange-kernel")
    except metadata.PackageNotFoundError:
        return "0+unknown"


def code_hash() -> str:
    """SHA-256 over the names and bytes of the pure core's files."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for name in PURE_CODE:
        path = package / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(package).as_posix()}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()

"""`python -m tests.soak --minutes M [--log sqlite|postgresql] [--rate COMMANDS_PER_S]`: check that nothing grows with time.

Runs a kernel in this process on a log in a temporary directory or in a temporary PostgreSQL, and the paper exchange in a
second process. Prints a line for each sample and for each leak. Exit code 0 if nothing leaks, else 1. `verdict` describes
the criteria.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.postgres import running_postgres
from tests.soak.soak import Plan, Soak

WARM_UP_SHARE = 0.25
WARM_UP_S_MAX = 120.0


def main() -> int:
    """Run the soak; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, required=True, help="duration, including the warm-up")
    parser.add_argument("--log", choices=("sqlite", "postgresql"), default="sqlite", help="backend of the log")
    parser.add_argument("--rate", type=float, default=50.0, help="commands per second")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # the load breaks sessions on purpose
    total_s = 60 * options.minutes
    warm_up_s = min(WARM_UP_SHARE * total_s, WARM_UP_S_MAX)
    with tempfile.TemporaryDirectory(prefix="kernel-soak-") as name, log_url(options.log, Path(name)) as url:
        plan = Plan(url=url, directory=Path(name), warm_up_s=warm_up_s, load_s=total_s - warm_up_s, rate=options.rate)
        found = asyncio.run(Soak(plan, say=say).run())
    for leak in found:
        say(f"LEAK {leak}")
    say("nothing grows with time" if not found else f"{len(found)} leaks")
    return 1 if found else 0


@contextlib.contextmanager
def log_url(kind: str, directory: Path) -> Iterator[str]:
    """Yield the URL of a log that lasts as long as the block."""
    if kind == "sqlite":
        yield f"sqlite:///{directory / 'kernel.db'}"
        return
    with running_postgres() as url:
        yield url


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())

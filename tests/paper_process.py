"""A paper exchange as a process of its own, for tests: `python -m tests.paper_process --listen ADDRESS …`.

Unlike `orderctl paper-exchange` it takes a whole `PaperConfig`. It prints the address that it listens at and serves until
SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path

from kernel.errors import KernelError
from kernel.venues.paper.matching.config import PaperConfig, PaperExchangeOptions
from kernel.venues.paper.server import serve_paper_exchange, speed_of


async def run(arguments: argparse.Namespace) -> None:
    """Serve an exchange until a signal cancels the task."""
    config = PaperConfig()
    if arguments.config is not None:
        config = PaperConfig.model_validate_json(Path(arguments.config).read_bytes())  # noqa: ASYNC240 nothing runs yet
    options = PaperExchangeOptions(
        tape=arguments.tape,
        symbol=arguments.symbol,
        seed=arguments.seed,
        speed=speed_of(arguments.speed),
        journal=arguments.journal,
        config=config,
    )
    task = asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await serve_paper_exchange(
            arguments.listen, options=options, announce=lambda address: print(address, flush=True)
        )


def main() -> int:
    """Parse the command line and serve; returns the exit code."""
    parser = argparse.ArgumentParser(prog="paper-exchange")
    parser.add_argument("--listen", required=True)
    parser.add_argument("--tape")
    parser.add_argument("--symbol")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speed", default="1")
    parser.add_argument("--journal")
    parser.add_argument("--config")
    try:
        asyncio.run(run(parser.parse_args()))
    except KernelError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

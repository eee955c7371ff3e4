"""The venue of a process: a paper exchange inside it, or one at an address. Called by `run`, `paper-exchange` and
`halt`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kernel.errors import ValidationError, Violation
from kernel.log.factory import sqlite_path
from kernel.venues.base import Venue
from kernel.venues.paper.matching.config import PaperConfig
from kernel.venues.paper.server import speed_of
from kernel.venues.paper.venue import PaperVenue


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperOptions:
    """A paper exchange: at an address, or in this process."""

    address: str | None = None
    """Where it listens; None: in this process, with the options below."""
    tape: str | None = None
    symbol: str | None = None
    speed: str = "1"
    seed: int = 0
    journal: str | None = None
    """The file that keeps its state; None: beside the log."""
    markets: str = "spot"
    """`spot`: limit and market orders only; `full`: every order type."""


def venue_of(name: str, options: PaperOptions, *, url: str, exchange_id: str) -> Venue:
    """Return the venue of a kernel on this log. Raises `ValidationError` for an unknown name or bad options."""
    if name != "paper":
        raise ValidationError(violations=[Violation("venue", "name", "`paper`", name)])
    if options.address is not None:
        return PaperVenue(options.address)
    return PaperVenue(
        tape=options.tape,
        symbol=options.symbol,
        seed=options.seed,
        speed=speed_of(options.speed),
        journal=options.journal or journal_beside(url, exchange_id),
        config=paper_config(options),
    )


def paper_config(options: PaperOptions) -> PaperConfig:
    return PaperConfig.model_validate({"symbols": "full"} if options.markets == "full" else {})


def venue_without_log(name: str, address: str | None, journal: str | None, url: str, exchange_id: str) -> Venue:
    """Return the venue of a log's orders without opening the log; the paper exchange of `run` opens by its journal.

    Raises `ValidationError` without a journal: an empty exchange must not be taken for the account.
    """
    path = journal or journal_beside(url, exchange_id)
    if address is None and (path is None or not Path(path).exists()):
        limit, text = "--address or --journal", "no journal of a paper exchange at {value}; give {limit}"
        raise ValidationError(violations=[Violation("address", "venue", limit, str(path), text)])
    return venue_of(name, PaperOptions(address=address, journal=path, speed="step"), url=url, exchange_id=exchange_id)


def journal_beside(url: str, exchange_id: str) -> str | None:
    """The journal of a log's paper exchange: beside the file, in the working directory for PostgreSQL, none in memory."""
    if url.startswith("sqlite:"):
        return f"{sqlite_path(url)}.paper.journal"
    return None if url.startswith("memory:") else f"{exchange_id}.paper.journal"

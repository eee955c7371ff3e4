"""The venue of a process: a paper exchange inside it, or one at an address. Called by `run`, `paper-exchange` and
`halt`."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import asdict, replace

from kernel.errors import ValidationError, Violation
from kernel.log.factory import sqlite_path
from kernel.venues.base import Venue
from kernel.venues.paper.matching.config import PaperExchangeOptions
from kernel.venues.paper.venue import PaperVenue


def venue_of(name: str, address: str | None, paper: PaperExchangeOptions, *, url: str, exchange_id: str) -> Venue:
    """Return the venue of a kernel on this log: at an address, or in this process with its journal beside the log.

    Raises `ValidationError` for an unknown name or bad options.
    """
    if name != "paper":
        raise ValidationError(violations=[Violation("venue", "name", "`paper`", name)])
    if address is not None:
        return PaperVenue(address)
    kept = replace(paper, journal=paper.journal or journal_beside(url, exchange_id))
    return PaperVenue(**asdict(kept))


def venue_without_log(name: str, address: str | None, journal: str | None, url: str, exchange_id: str) -> Venue:
    """Return the venue of a log's orders without opening the log; the paper exchange of `run` opens by its journal.

    Raises `ValidationError` without a journal: an empty exchange must not be taken for the account.
    """
    path = journal or journal_beside(url, exchange_id)
    if address is None and (path is None or not Path(path).exists()):
        limit, text = "--address or --journal", "no journal of a paper exchange at {value}; give {limit}"
        raise ValidationError(violations=[Violation("address", "venue", limit, str(path), text)])
    return venue_of(name, address, PaperExchangeOptions(journal=path, speed="step"), url=url, exchange_id=exchange_id)


def journal_beside(url: str, exchange_id: str) -> str | None:
    """The journal of a log's paper exchange: beside the file, in the working directory for PostgreSQL, none in memory."""
    if url.startswith("sqlite:"):
        return f"{sqlite_path(url)}.paper.journal"
    return None if url.startswith("memory:") else f"{exchange_id}.paper.journal"

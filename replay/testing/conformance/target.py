"""The adapter under test and the kit's configuration.

An adapter is found by its name under the entry points `exchange_kernel.venues`: a function that takes the table `venue` of
the configuration and returns an unconnected `Venue`. `paper`, the paper exchange in a process of its own, is built in.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import pydantic
from msgspec.structs import replace
from pydantic import Field

from kernel.errors import ValidationError
from kernel.safety.limit_settings import Model
from kernel.venues.base import Venue
from kernel.venues.paper.matching.config import PaperConfig, PaperExchangeOptions, full_symbols
from kernel.venues.paper.server import serve_paper_exchange
from kernel.venues.paper.venue import PaperVenue
from replay.testing.conformance.reduced_venue import REMOVED, ReducedVenue

ENTRY_POINTS = "exchange_kernel.venues"
PAPER = "paper"


class Waiver(Model):
    """A case that may fail until a date."""

    case: str
    reason: str = Field(min_length=1)
    expires: date
    """The last day on which it applies."""


class KitConfig(Model):
    """The table `conformance`, the adapter's options and the waivers. Prices and quantities are decimals, as text."""

    symbol: str = "BTCUSDT"
    quantity: Decimal = Field(default=Decimal("0.001"), gt=0)
    """Quantity of each order."""
    rest_price: Decimal = Field(default=Decimal(30_000), gt=0)
    """A buy order at this price rests."""
    sandbox: bool = False
    """The account holds no real money."""
    timeout_s: float = Field(default=20.0, gt=0)
    """How long the venue may take to show a change."""
    remove: frozenset[str] = frozenset()
    """Abilities taken away from the adapter."""
    venue: dict[str, Any] = Field(default_factory=dict)
    """The adapter's own options."""
    waivers: tuple[Waiver, ...] = ()

    @pydantic.field_validator("remove")
    @classmethod
    def _removable(cls, names: frozenset[str]) -> frozenset[str]:
        if unknown := names - REMOVED.keys():
            raise ValueError(f"{', '.join(sorted(unknown))} cannot be removed; {', '.join(sorted(REMOVED))} can")
        return names


def read_config(path: str | None, *, name: str) -> KitConfig:
    """Read the kit's configuration; without a file, the defaults of the paper exchange.

    Raises `ValidationError` if the file cannot be read or is not valid, or is missing for another venue.
    """
    if path is None:
        if name != PAPER:
            raise ValidationError(f"--config is missing: the venue {name} needs a symbol, a quantity and a price")
        return KitConfig(sandbox=True)
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        kit = found.pop("conformance", {})
        return KitConfig.model_validate({"sandbox": name == PAPER} | kit | found)
    except (OSError, ValueError, TypeError) as problem:
        raise ValidationError(f"the configuration {path} is not valid: {problem}") from problem


class Target(msgspec.Struct, frozen=True):
    """The adapter under test; another process can make one too."""

    name: str
    config: KitConfig
    address: str | None = None
    """Where the kit's paper exchange listens."""

    def venue(self) -> Venue:
        """Return a new, unconnected adapter. Raises `ValidationError` for a name that no adapter has."""
        venue = PaperVenue(self.address) if self.address is not None else self._installed()
        return ReducedVenue(venue, self.config.remove) if self.config.remove else venue

    def whole(self) -> Target:
        """Return the target with all its abilities."""
        return replace(self, config=self.config.model_copy(update={"remove": frozenset()}))

    def _installed(self) -> Venue:
        found = metadata.entry_points(group=ENTRY_POINTS)
        if self.name not in found.names:
            known = ", ".join(sorted({PAPER, *found.names}))
            raise ValidationError(f"no venue is called {self.name}: {known} are installed")
        make: Callable[[Mapping[str, Any]], Venue] = found[self.name].load()
        return make(self.config.venue)


@contextmanager
def opened_target(name: str, config: KitConfig) -> Iterator[Target]:
    """Give the adapter; the paper exchange runs as long as the block."""
    if name != PAPER:
        yield Target(name, config)
        return
    with paper_exchange(config.venue) as address:
        yield Target(name, config, address)


@contextmanager
def paper_exchange(options: Mapping[str, Any]) -> Iterator[str]:
    """Run a paper exchange with these fields of `PaperConfig` in another process; gives its address."""
    defaults = {"symbols": full_symbols(), "validity_window_ns": 1_000_000_000}
    config = PaperConfig(**{**defaults, **options})
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(theirs, config.model_dump_json()), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def serve(announced: Connection, config: str) -> None:
    """Serve a paper exchange in this process, and announce its address."""

    options = PaperExchangeOptions(
        tape=(), symbol="BTCUSDT", speed="step", config=PaperConfig.model_validate_json(config)
    )
    asyncio.run(serve_paper_exchange("127.0.0.1:0", options=options, announce=announced.send))

"""Exchanges: the port (`base`) and its adapters.

The kernel sees `Venue` alone. `paper` is the paper exchange, made of: `paper_rules` (who trades with whom; pure),
`paper_changes`, `paper_orders` and `paper_book` (state as a fold), `paper_market` (the tape's side of it), `paper_draft`,
`paper_checks`, `paper_rates`, `paper_amend`, `paper_groups`, `paper_stops` and `paper_stamps` (what a request would come
to), `paper_reports`, `paper_journal`, `paper_engine` (decides), `paper_exchange` (time, sessions, faults), `paper_faults`,
`paper_tape` (`paper_tape_maker`), `paper_config`, `paper_admin`, `paper_wire` and `paper_server` (the process),
`paper_client` and `paper_link` (the ways to it).
"""

from __future__ import annotations

from kernel.venues.base import (
    AmendDialect,
    AmendQuantity,
    CancelRequest,
    Dedupe,
    ExecutionReport,
    ModifyRequest,
    RateLimit,
    RateLimitKind,
    RateUsage,
    ReadLag,
    SubmitGroupRequest,
    SubmitRequest,
    Venue,
    VenueCapabilities,
    VenueSnapshot,
)
from kernel.venues.paper import PaperVenue
from kernel.venues.paper_config import PaperConfig, PaperExchangeOptions
from kernel.venues.paper_faults import Fault, FaultKind, FaultPlan, FaultRates, Operation

__all__ = [
    "AmendDialect", "AmendQuantity", "CancelRequest", "Dedupe", "ExecutionReport", "Fault", "FaultKind", "FaultPlan",
    "FaultRates", "ModifyRequest", "Operation", "PaperConfig", "PaperExchangeOptions", "PaperVenue", "RateLimit",
    "RateLimitKind", "RateUsage", "ReadLag", "SubmitGroupRequest", "SubmitRequest", "Venue", "VenueCapabilities",
    "VenueSnapshot",
]  # fmt: skip

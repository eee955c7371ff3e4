from kernel.venues.base import (
    AmendDialect as AmendDialect, AmendQuantity as AmendQuantity, CancelRequest as CancelRequest, Dedupe as Dedupe,
    ExecutionReport as ExecutionReport, ModifyRequest as ModifyRequest, RateLimit as RateLimit,
    RateLimitKind as RateLimitKind, RateUsage as RateUsage, ReadLag as ReadLag,
    SubmitGroupRequest as SubmitGroupRequest, SubmitRequest as SubmitRequest, Venue as Venue,
    VenueCapabilities as VenueCapabilities, VenueSnapshot as VenueSnapshot,
)  # fmt: skip
from kernel.venues.paper import PaperVenue as PaperVenue
from kernel.venues.paper_config import PaperConfig as PaperConfig, PaperExchangeOptions as PaperExchangeOptions
from kernel.venues.paper_faults import (
    Fault as Fault, FaultKind as FaultKind, FaultPlan as FaultPlan, FaultRates as FaultRates,
    FaultOperation as FaultOperation,
)  # fmt: skip

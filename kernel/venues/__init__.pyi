from kernel.venues.base import (
    AmendDialect as AmendDialect, AmendQuantity as AmendQuantity, CancelRequest as CancelRequest, Dedupe as Dedupe,
    ExecutionReport as ExecutionReport, ModifyRequest as ModifyRequest, RateLimit as RateLimit,
    RateLimitKind as RateLimitKind, RateUsage as RateUsage, ReadLag as ReadLag,
    SubmitGroupRequest as SubmitGroupRequest, SubmitRequest as SubmitRequest, Transfer as Transfer,
    TriggerDialect as TriggerDialect, Venue as Venue,
    VenueCapabilities as VenueCapabilities, VenueSnapshot as VenueSnapshot,
)  # fmt: skip
from kernel.venues.paper.faults import (
    Fault as Fault, FaultKind as FaultKind, FaultOperation as FaultOperation, FaultPlan as FaultPlan,
)  # fmt: skip
from kernel.venues.paper.matching.config import (
    PaperConfig as PaperConfig, PaperExchangeOptions as PaperExchangeOptions,
)  # fmt: skip
from kernel.venues.paper.venue import PaperVenue as PaperVenue

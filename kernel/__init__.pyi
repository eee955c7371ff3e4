from kernel.api import ExchangeKernel as ExchangeKernel
from kernel.controller import EventSourcedKernel as EventSourcedKernel
from kernel.errors import (
    AlreadyExistsError as AlreadyExistsError, BusyError as BusyError, ConflictError as ConflictError,
    ExchangeError as ExchangeError, FencedError as FencedError, IntegrityError as IntegrityError,
    KernelError as KernelError, LogUnavailableError as LogUnavailableError, NotFoundError as NotFoundError,
    NotReadyError as NotReadyError, NotSent as NotSent, OutcomeUnknown as OutcomeUnknown, Rejected as Rejected,
    SchemaError as SchemaError, UnsafeFileError as UnsafeFileError, ValidationError as ValidationError,
    Remedy as Remedy, VenueError as VenueError, Violation as Violation, WaitTimeoutError as WaitTimeoutError,
)  # fmt: skip
from kernel.log import open_log as open_log
from kernel.models import (
    AcceptedTerms as AcceptedTerms, AccountState as AccountState, Attempt as Attempt, AttemptKind as AttemptKind,
    AttemptOutcome as AttemptOutcome, Balance as Balance, Desired as Desired, EarlierOrders as EarlierOrders,
    Evidence as Evidence, ExecType as ExecType, ExternalOrder as ExternalOrder,
    ExternalOrderPolicy as ExternalOrderPolicy,
    Finding as Finding, FindingKind as FindingKind, JsonObject as JsonObject, Liquidity as Liquidity,
    LookScope as LookScope, OrdStatus as OrdStatus, OrderIntent as OrderIntent, OrderState as OrderState,
    OrderStatus as OrderStatus, Position as Position, ReconciliationStatus as ReconciliationStatus,
    UNRESOLVED as UNRESOLVED, UnsolicitedCancelPolicy as UnsolicitedCancelPolicy, VenueOrder as VenueOrder,
    VenueTermsPolicy as VenueTermsPolicy, is_json as is_json,
)  # fmt: skip
from kernel.order_spec import (
    AssetId as AssetId, AssetMetadata as AssetMetadata, Counter as Counter,
    EXCHANGE_ID_PATTERN as EXCHANGE_ID_PATTERN, ExchangeId as ExchangeId,
    INTENT_ID_PATTERN as INTENT_ID_PATTERN,
    InstantNs as InstantNs, Int as Int, IntentId as IntentId, OcoMode as OcoMode,
    OrderType as OrderType, PRICED as PRICED, STOPPED as STOPPED, Scale as Scale, Side as Side,
    StandardOrder as StandardOrder, StandardOrderGroup as StandardOrderGroup, SymbolId as SymbolId,
    SymbolMetadata as SymbolMetadata, SymbolStatus as SymbolStatus, TimeInForce as TimeInForce,
    UINT64_MAX as UINT64_MAX, Uint64 as Uint64, expiry_violations as expiry_violations, from_scaled as from_scaled,
    order_inconsistencies as order_inconsistencies, to_scaled as to_scaled, trimmed as trimmed,
)  # fmt: skip
from kernel.reconciler.engine import ReconciliationEngine as ReconciliationEngine
from kernel.safety.limit_settings import LimitSettings as LimitSettings, Limits as Limits, Model as Model
from kernel.settings import KernelSettings as KernelSettings, ns as ns

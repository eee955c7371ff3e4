from projections.memory import (
    InMemoryActualStateStore as InMemoryActualStateStore, InMemoryIntentStore as InMemoryIntentStore,
)  # fmt: skip
from projections.state import State as State
from projections.stores import (
    EventSourcedActualStore as EventSourcedActualStore, EventSourcedIntentStore as EventSourcedIntentStore,
)  # fmt: skip

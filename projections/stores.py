"""TEMPORARY BRIDGE by the lead: overwrite freely."""
from projections.state import IS, AS
class EventSourcedIntentStore(IS):
    def __init__(self, log, state, **k): super().__init__(state)
class EventSourcedActualStore(AS):
    def __init__(self, log, state, **k): super().__init__(state)

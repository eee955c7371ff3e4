"""State derived from the log, and the diff between what is wanted and what is there."""

from projections.state import State
from projections.stores import EventSourcedActualStore, EventSourcedIntentStore

"""State derived from the log, and the diff between what is wanted and what is there.

`state`: all projections as one, the fold of the log in memory: what it holds is `state_data`, how events change that is
`state_fold`. It folds `indexes` (where things are), `ledger` (positions and balances), `reference` (symbols, assets),
`groups` (who depends on whom), `observed_order` (what is at stake), `findings`, `storms` (rejections that keep coming
back), `external` (orders that are no intent's) and `ended` (what is over and may be let go); what is known of one
intent is `kernel.lifecycle`'s, held in `records`, most of them as bytes (`packing`). `parts` and `checkpoint`: a state
in a file. `diff`: which keys differ. `digest`: a state as text. `stores`: the seed's two stores on the log. `memory`:
the same, plain. `sql`: the read models as tables, with `sql_tables` (which there are), `sql_rows` (what an event makes
of them), `sql_sqlite` and `sql_postgres`."""

from projections.memory import InMemoryActualStateStore, InMemoryIntentStore
from projections.state import State
from projections.stores import EventSourcedActualStore, EventSourcedIntentStore

__all__ = [
    "EventSourcedActualStore", "EventSourcedIntentStore", "InMemoryActualStateStore", "InMemoryIntentStore", "State",
]  # fmt: skip

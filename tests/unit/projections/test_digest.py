"""The canonical bytes of a state, and the values that a checkpoint stores."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from kernel.events import BaseEvent
from kernel.lifecycle.orders.order_facts import OrderFacts
from kernel.lifecycle.orders.shared_sequence import SharedSequence
from kernel.lifecycle.orders.trades import TradeEntry, Trades
from kernel.lifecycle.record import Record
from kernel.log.engine.recorder import RowQuery
from kernel.log.engine.records import event_of
from projections import checkpoint
from projections.digest import encoded
from projections.snapshot import StateSnapshot
from projections.state import State
from tests.folding import an_order
from tests.nightly import after_the_first
from tests.recorded import simulated_whole

pytestmark = pytest.mark.xdist_group("simulated runs")  # these share costly fixtures

SEEDS = after_the_first(2, (3, 7_100_000, 7_100_004))


@pytest.fixture(scope="module", params=SEEDS)
def history(request: pytest.FixtureRequest) -> list[BaseEvent]:
    """The events of a simulated run: groups, lost answers, busts, crashes."""
    return [event_of(row) for row in simulated_whole(request.param).select(RowQuery())]


def test_a_stored_record_is_read_as_it_was(history: list[BaseEvent]) -> None:
    """Each record after each event is read equal, with the same bytes: an enum is no text, a set no list."""
    state = State()
    for event in history:
        for intent_id in state.apply([event]).touched:
            record = state.record(intent_id)
            again = checkpoint.decoder(Record)(checkpoint.encode(record))
            assert again == record
            assert encoded(again) == encoded(record)


def test_a_checkpoint_gives_the_same_digest(history: list[BaseEvent]) -> None:
    """A state restored from a stored snapshot and stored records equals the one that was folded."""
    state, restored = State(), State()
    state.apply(history)
    snapshot = checkpoint.decoder(StateSnapshot)(checkpoint.encode(state.snapshot()))
    restored.restore(snapshot, [*state.records().values()])
    assert restored.digest() == state.digest()
    assert restored.first_difference(state) is None


def test_the_bytes_do_not_depend_on_order() -> None:
    """Equal sets and mappings have the same bytes; another value has others."""
    ids = [f"id-{number}" for number in range(50)]
    values = [(replace(Record("i"), solicited=frozenset(names)), dict.fromkeys(names, 1)) for names in (ids, ids[::-1])]
    assert encoded(values[0]) == encoded(values[1])
    assert encoded(values[0]) != encoded((values[0][0], values[0][1] | {"id-0": 2}))


def test_facts_are_stored_without_their_defaults() -> None:
    """What no event has told takes no space; a sequence is a list."""
    record = Record("i", version=3, targets=SharedSequence([("a", "b")]))
    assert msgspec.json.decode(checkpoint.encode(record)) == {"intent_id": "i", "version": 3, "targets": [["a", "b"]]}


def test_a_copy_does_not_keep_cached_properties() -> None:
    """A copy with another trade computes its own quantities; the original keeps its own."""
    facts = OrderFacts("o", ("c",), an_order(), 100, 10, 1, 1, 1)
    assert facts.quantities.cum_qty == 0
    traded = replace(facts, trades=Trades([TradeEntry("k", 5, 10, 1, None, None, None)]))
    assert (traded.quantities.cum_qty, facts.quantities.cum_qty) == (5, 0)

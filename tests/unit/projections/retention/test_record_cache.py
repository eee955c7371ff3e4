"""Records that are held packed are the records that were folded."""

from __future__ import annotations

import pytest

from kernel.events import BaseEvent
from kernel.lifecycle import Record
from kernel.log.engine.recorder import RowQuery
from kernel.log.engine.records import event_of
from kernel.models import Attempt, AttemptKind, AttemptOutcome, OrderIntent
from kernel.order_spec import OrderType, Side, StandardOrder
from projections import State
from projections.digest import canonical
from projections.retention.codec import decode, encode
from projections.retention.policy import RetentionPolicy
from projections.retention.record_cache import Records
from tests.recorded import played
from tests.simulation.plan import from_seed

pytestmark = pytest.mark.xdist_group("records")  # these share what is costly to make

SEEDS = (3, 7_100_000, 7_100_004)


@pytest.fixture(scope="module", params=SEEDS)
def history(request: pytest.FixtureRequest) -> list[BaseEvent]:
    """The events of a simulated run: groups, lost answers, busts, crashes."""
    return [event_of(row) for row in played(from_seed(request.param)).select(RowQuery())]


def folded(history: list[BaseEvent], *, unpacked_max: int) -> State:
    """A state with these events folded, one by one."""
    state = State(RetentionPolicy(unpacked_max=unpacked_max))
    for event in history:
        state.apply([event])
    return state


def wanted(intent_id: str, **metadata: object) -> Record:
    """A record of an intent that was only wanted."""
    order = StandardOrder(symbol_id="BTCUSDT", side=Side.BUY, order_type=OrderType.LIMIT, quantity=5, price=7)
    intent = OrderIntent(intent_id=intent_id, exchange_id="paper", order=order, metadata=metadata)
    return Record(intent_id, intent=intent, wanted_most=5)


def test_a_fold_of_packed_records_is_the_same_fold(history: list[BaseEvent]) -> None:
    """Where each record is packed as soon as another is touched, all that is known, in order, is what it is otherwise."""
    whole, packed = (folded(history, unpacked_max=number) for number in (10_000, 1))
    assert packed.digest() == whole.digest()
    assert [*packed.records().values()] == [*whole.records().values()]
    assert [*packed.records().as_now()] == [*whole.records().as_now()]
    assert [packed.order_state(name) for name in packed.records()] == [
        whole.order_state(name) for name in whole.records()
    ]


def test_what_is_unpacked_is_of_the_same_types(history: list[BaseEvent]) -> None:
    """Each record after each event comes back equal, in the same text: an enum is not its text, a set not a list."""
    state = State()
    for event in history:
        for intent_id in state.apply([event]).touched:
            record = state.record(intent_id)
            again = decode(Record, encode(record))
            assert again == record
            assert canonical(again) == canonical(record)


def test_what_was_asked_for_goes_on_unchanged() -> None:
    """What is changed after the records of an instant were asked for is not in them, be it packed then or not."""
    held = Records(2)
    before = [wanted(f"i{number}", label=number) for number in range(5)]
    held.update((record.intent_id, record) for record in before)
    taken = held.as_now()
    for record in before:
        held[record.intent_id] = wanted(record.intent_id)
    del held["i3"]
    assert [*taken] == before
    assert [*held.items()] == [(name, wanted(name)) for name in ("i0", "i1", "i2", "i4")]
    assert held.get("i3") is None
    assert "i3" not in held


def test_what_cannot_be_packed_is_held_as_it_is() -> None:
    """A value that is not what its annotation says is told by `encode`, and does not end a fold."""
    attempt = Attempt(
        number=1, kind=AttemptKind.SUBMIT, position=2, outcome=AttemptOutcome.REJECTED, client_order_id="c"
    ).model_copy(update={"code": object()})  # fmt: skip
    odd = Record("odd", attempts=(attempt,))
    with pytest.raises(ValueError):  # noqa: PT011 marshal has no narrower one, and words of its own
        encode(odd)
    held = Records(1)
    held.update({"odd": odd, "next": wanted("next"), "last": wanted("last")})
    assert held["odd"] is odd


def test_a_restored_state_holds_as_few_unpacked(history: list[BaseEvent]) -> None:
    """What is restored keeps to the bound of the state it was taken from, whatever a new one's would be."""
    taken = folded(history, unpacked_max=1)
    restored = State()
    restored.restore(taken.snapshot(), [*taken.records().as_now()])
    held = restored.records()
    first, second, *_ = held
    before = held[first]
    assert held[second] != before  # and with that the first one is packed
    again = held[first]
    assert again == before
    assert again is not before

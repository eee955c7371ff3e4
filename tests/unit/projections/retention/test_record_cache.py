"""Packed records equal the records that were folded."""

from __future__ import annotations

import pytest
from msgspec import structs

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
from tests.nightly import after_the_first
from tests.recorded import simulated_whole

pytestmark = pytest.mark.xdist_group("simulated runs")  # these share costly fixtures

SEEDS = after_the_first(2, (3, 7_100_000, 7_100_004))


@pytest.fixture(scope="module", params=SEEDS)
def history(request: pytest.FixtureRequest) -> list[BaseEvent]:
    """The events of a simulated run: groups, lost answers, busts, crashes."""
    return [event_of(row) for row in simulated_whole(request.param).select(RowQuery())]


def folded(history: list[BaseEvent], *, unpacked_max: int) -> State:
    """A state with these events folded, one by one."""
    state = State(RetentionPolicy(unpacked_max=unpacked_max))
    for event in history:
        state.apply([event])
    return state


def created(intent_id: str, **metadata: object) -> Record:
    """A record of an intent that was only created."""
    order = StandardOrder(symbol_id="BTCUSDT", side=Side.BUY, order_type=OrderType.LIMIT, quantity=5, price=7)
    intent = OrderIntent(intent_id=intent_id, exchange_id="paper", order=order, metadata=metadata)
    return Record(intent_id, intent=intent, wanted_most=5)


def test_a_fold_of_packed_records_is_the_same_fold(history: list[BaseEvent]) -> None:
    """With at most one record unpacked, the fold gives the same records in the same order."""
    whole, packed = (folded(history, unpacked_max=number) for number in (10_000, 1))
    assert packed.digest() == whole.digest()
    assert [*packed.records().values()] == [*whole.records().values()]
    assert [*packed.records().as_now()] == [*whole.records().as_now()]
    assert [packed.order_state(name) for name in packed.records()] == [
        whole.order_state(name) for name in whole.records()
    ]


def test_unpacked_values_have_the_same_types(history: list[BaseEvent]) -> None:
    """Each record after each event is unpacked equal, with the same text: an enum is no text, a set no list."""
    state = State()
    for event in history:
        for intent_id in state.apply([event]).touched:
            record = state.record(intent_id)
            again = decode(Record, encode(record))
            assert again == record
            assert canonical(again) == canonical(record)


def test_a_view_of_the_records_does_not_change() -> None:
    """Later changes do not show in the records of an instant, packed or not."""
    held = Records(2)
    before = [created(f"i{number}", label=number) for number in range(5)]
    held.update((record.intent_id, record) for record in before)
    taken = held.as_now()
    for record in before:
        held[record.intent_id] = created(record.intent_id)
    del held["i3"]
    assert [*taken] == before
    assert [*held.items()] == [(name, created(name)) for name in ("i0", "i1", "i2", "i4")]
    assert held.get("i3") is None
    assert "i3" not in held


def test_a_record_that_cannot_be_packed_stays_unpacked() -> None:
    """`encode` refuses a value of another type than annotated; the fold goes on."""
    attempt = structs.replace(Attempt(
        number=1, kind=AttemptKind.SUBMIT, position=2, outcome=AttemptOutcome.REJECTED, client_order_id="c"
    ), code=object())  # fmt: skip
    odd = Record("odd", attempts=(attempt,))
    with pytest.raises(ValueError):  # noqa: PT011 marshal raises no narrower one
        encode(odd)
    held = Records(1)
    held.update({"odd": odd, "next": created("next"), "last": created("last")})
    assert held["odd"] is odd


def test_a_restored_state_keeps_its_retention(history: list[BaseEvent]) -> None:
    """A restored state has the retention of the state that it was taken from."""
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

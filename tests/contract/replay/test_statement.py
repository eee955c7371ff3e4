"""The daily statement and the entries it is made of: exact, by owner, on the day that the venue says."""

from __future__ import annotations

import asyncio
import csv
import io
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.errors import ValidationError
from kernel.events import IntentDeleted, intent_stream
from kernel.log import LogSettings, open_log
from kernel.order_spec import Side
from projections import State
from projections.folds import ledger
from projections.folds.reference import Reference
from replay import statement
from replay.histories.statement import csv_text, day_of, listing
from replay.log_access import bookings
from replay.log_access.log_reader import fold
from tests.contract.backends import Backend
from tests.traded import DAY_2, Book


async def a_traded_log(backend: Backend) -> Any:
    """Two owners over two days: a round trip with fees, an open sale, a correction and a bust."""
    log = backend.open(settings=LogSettings(page_rows=3))
    book = Book(log)
    await book.open()
    await book.order("b", Side.BUY, 200_000_000, 100_00, owner="mm-1")
    await book.order("s", Side.SELL, 200_000_000, 110_00, owner="mm-1")
    await book.order("x", Side.SELL, 50_000_000, 105_00)
    await book.fill("b", "t1", 100_000_000, 100_00, at=DAY_2 - 1, fee=10_000_000)
    await book.fill("b", "t1", 100_000_000, 100_00, at=DAY_2 - 1, fee=10_000_000)  # told twice
    await book.fill("x", "t2", 50_000_000, 105_00)
    await book.fill("s", "t3", 100_000_000, 110_00, at=DAY_2, fee=-5_000_000)
    await book.fill("b", "t4", 100_000_000, 90_00, at=DAY_2)
    await book.correct("b", "t5", "t4", 100_000_000, 95_00)
    await book.bust("x", "t6", "t2")
    return log


async def test_a_statement_is_by_day_owner_and_symbol(backend: Backend) -> None:
    """Each line has exactly what was traded, paid and earned; a bust takes back on its own day."""
    async with await a_traded_log(backend) as log:
        found = [item.data for item in listing(await statement(log)).items]
    common = {"symbol_id": "BTCUSDT", "quote_asset": "USDT"}
    zero = "0.0000000000"
    assert found == [
        {"day": "2026-01-31", "owner": "", "fills": 1, "corrections": 0, "busts": 0, "bought": "0.00000000",
         "sold": "0.50000000", "realized_pnl": zero, "paid": zero, "received": "52.5000000000", "fees": {}, **common},
        {"day": "2026-01-31", "owner": "mm-1", "fills": 1, "corrections": 0, "busts": 0, "bought": "1.00000000",
         "sold": "0.00000000", "realized_pnl": zero, "paid": "100.0000000000", "received": zero,
         "fees": {"USDT": "0.10000000"}, **common},
        {"day": "2026-02-01", "owner": "", "fills": 0, "corrections": 0, "busts": 1, "bought": "0.00000000",
         "sold": "-0.50000000", "realized_pnl": zero, "paid": zero, "received": "-52.5000000000", "fees": {}, **common},
        {"day": "2026-02-01", "owner": "mm-1", "fills": 2, "corrections": 1, "busts": 0, "bought": "1.00000000",
         "sold": "1.00000000", "realized_pnl": "10.0000000000", "paid": "95.0000000000",
         "received": "110.0000000000", "fees": {"USDT": "-0.05000000"}, **common},
    ]  # fmt: skip


async def test_a_statement_up_to_a_position_knows_nothing_later(backend: Backend) -> None:
    """What was recorded after it is in no line, on whichever day it was."""
    async with await a_traded_log(backend) as log:
        trades_at = [row.position async for rows in log.read() for row in rows if row.topic == "OrderFilled"]
        found = await statement(log, upto=trades_at[2])
    assert found.position == trades_at[2]
    assert [(line.day, line.owner, line.fills) for line in found.lines] == [
        ("2026-01-31", "", 1), ("2026-01-31", "mm-1", 1),
    ]  # fmt: skip


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York", "UTC"])
def test_a_day_is_the_same_wherever_it_is_made(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins with the first nanosecond of midnight in UTC, whatever the machine's own zone."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        try:
            days = [day_of(DAY_2 - 1), day_of(DAY_2), day_of(0)]
        finally:
            patch.undo()
            time.tzset()
    assert days == ["2026-01-31", "2026-02-01", "1970-01-01"]


async def test_a_statement_of_a_day_and_an_owner_is_a_part_of_the_whole(backend: Backend) -> None:
    """What came before the day still counts: profit is by the position that was brought into it."""
    async with await a_traded_log(backend) as log:
        whole = (await statement(log)).lines
        assert (await statement(log, day="2026-02-01", owner="mm-1")).lines == (whole[3],)
        assert (await statement(log, owner="")).lines == (whole[0], whole[2])
        assert (await statement(log, day="2026-02-02")).lines == ()


@pytest.mark.parametrize("day", ["yesterday", "2026-1-31", "20260131", "2026-02-30", "2026-01-31T00:00:00Z", ""])
async def test_a_day_is_written_in_one_way(day: str) -> None:
    """What is no day is refused, with the form and the text."""
    async with open_log("memory://", exchange_id="x") as log:
        with pytest.raises(ValidationError, match="2026-01-31"):
            await statement(log, day=day)


async def test_a_trade_without_the_venues_instant_is_of_the_day_of_its_record(backend: Backend) -> None:
    """Where the venue gave no instant the log's own counts."""
    async with backend.open() as log:
        book = Book(log)
        await book.open()
        await book.order("b", Side.BUY, 100, 100_00)
        await book.fill("b", "t", 100, 100_00, at=None)
        (line,) = (await statement(log)).lines
        (row,) = [row async for rows in log.read() for row in rows if row.topic == "OrderFilled"]
    assert line.day == day_of(row.recorded_at_ns)


async def test_an_owner_outlives_the_intent(backend: Backend) -> None:
    """A trade that is busted after its intent was deleted is taken from the same owner."""
    async with backend.open() as log:
        book = Book(log)
        await book.open()
        await book.order("b", Side.BUY, 100, 100_00, owner="mm-1")
        await book.fill("b", "t", 100, 100_00)
        await book.record(intent_stream("b"), IntentDeleted(intent_id="b"))
        await book.bust("b", "u", "t")
        assert [(line.owner, line.bought) for line in (await statement(log)).lines] == [("mm-1", 100), ("mm-1", -100)]


async def test_a_statement_of_an_unknown_market_keeps_the_integers(backend: Backend) -> None:
    """Without scales the stored integers are shown, as numbers."""
    async with backend.open() as log:
        book = Book(log)
        await book.order("b", Side.BUY, 100, 100_00)
        await book.fill("b", "t", 100, 100_00, fee=7)
        (item,) = listing(await statement(log)).items
    assert (item.data["bought"], item.data["paid"], item.data["fees"]) == (100, 1_000_000, {"USDT": 7})


async def test_a_statement_as_csv_has_every_column_and_no_control_character() -> None:
    """A header, a line for each line, hostile text written out."""
    async with open_log("memory://", exchange_id="x") as log:
        book = Book(log)
        await book.open()
        await book.order("b", Side.BUY, 100, 100_00, owner='m\x1b[2J,"1"')
        await book.fill("b", "t", 100, 100_00)
        text = csv_text(listing(await statement(log)))
    header, line = csv.reader(io.StringIO(text))
    assert "\x1b" not in text
    assert dict(zip(header, line, strict=True))["owner"] == 'm\\x1b[2J,"1"'


KEYS = st.sampled_from(["t1", "t2", "t3", "t4"])
ACTS = st.lists(
    st.tuples(
        st.sampled_from(["fill", "fill", "fill", "correct", "bust"]),
        st.sampled_from(["a", "b", "c"]),
        KEYS,
        KEYS,
        st.integers(1, 50),
        st.integers(1, 9),
        st.none() | st.integers(-5, 5),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(acts=ACTS, held_max=st.sampled_from([1, 10]))
def test_entries_sum_to_the_positions(acts: list[tuple[Any, ...]], held_max: int) -> None:
    """Whatever is filled, told twice, corrected and busted, and however few records are held: what the entries come to is
    the ledger's position, its profit and its fees."""

    async def walk() -> None:
        async with open_log("memory://", exchange_id="x", settings=LogSettings(page_rows=2)) as log:
            book = Book(log)
            await book.open()
            for intent_id, side in (("a", Side.BUY), ("b", Side.SELL), ("c", Side.BUY)):
                await book.order(intent_id, side, 100, 5)
            for number, (act, intent_id, key, ref, quantity, price, fee) in enumerate(acts):
                if act == "fill":
                    await book.fill(intent_id, key, quantity, price, fee=fee)
                elif act == "correct":
                    await book.correct(intent_id, f"n{number}", ref, quantity, price, fee=fee)
                else:
                    await book.bust(intent_id, f"n{number}", ref)
            state = await fold(log, State())
            found = [e async for page in bookings.entries(log, Reference(), held_max=held_max) for e in page]
            expected = {position.symbol_id: position for position in state.positions()}
            position = ledger.OpenPosition()
            for entry in found:
                position = ledger.booked(position, entry.booking)
            if found:
                shown = ledger.position_of_holding("BTCUSDT", position)
                assert (shown, {**shown.fees}) == (expected["BTCUSDT"], {**expected["BTCUSDT"].fees})
            bought: Counter[str] = Counter()
            for entry in found:
                bought[entry.intent_id] += entry.quantity
            assert {intent_id: total for intent_id, total in bought.items() if total} == {
                intent_id: record.cum_qty for intent_id in "abc" if (record := state.record(intent_id)).cum_qty
            }

    asyncio.run(walk())

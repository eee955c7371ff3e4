"""Daily statements and their entries: exact, by owner, on the venue's day."""

from __future__ import annotations

import asyncio
import csv
import io
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
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
    """Each line has the exact quantities, fees and profit; a bust reverses its trade on its own day."""
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


async def test_a_statement_up_to_a_position_excludes_later_events(backend: Backend) -> None:
    """Events after the position are in no line, whatever their day."""
    async with await a_traded_log(backend) as log:
        trades_at = [row.position async for rows in log.read() for row in rows if row.topic == "OrderFilled"]
        found = await statement(log, upto=trades_at[2])
    assert found.position == trades_at[2]
    assert [(line.day, line.owner, line.fills) for line in found.lines] == [
        ("2026-01-31", "", 1), ("2026-01-31", "mm-1", 1),
    ]  # fmt: skip


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York", "UTC"])
def test_a_day_is_in_utc_in_every_time_zone(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day begins with the first nanosecond after midnight UTC, whatever the local time zone."""
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
    """Profit of a day is by the position carried into it."""
    async with await a_traded_log(backend) as log:
        whole = (await statement(log)).lines
        assert (await statement(log, day="2026-02-01", owner="mm-1")).lines == (whole[3],)
        assert (await statement(log, owner="")).lines == (whole[0], whole[2])
        assert (await statement(log, day="2026-02-02")).lines == ()


@pytest.mark.parametrize("day", ["yesterday", "2026-1-31", "20260131", "2026-02-30", "2026-01-31T00:00:00Z", ""])
async def test_a_malformed_day_is_rejected(day: str) -> None:
    """A malformed day is an error with the required format and the text."""
    async with open_log("memory://", exchange_id="x") as log:
        with pytest.raises(ValidationError, match="2026-01-31"):
            await statement(log, day=day)


async def test_a_trade_without_venue_time_counts_on_the_day_of_its_record(backend: Backend) -> None:
    """Without a venue timestamp the log's own timestamp counts."""
    async with backend.open() as log:
        book = Book(log)
        await book.open()
        await book.order("b", Side.BUY, 100, 100_00)
        await book.fill("b", "t", 100, 100_00, at=None)
        (line,) = (await statement(log)).lines
        (row,) = [row async for rows in log.read() for row in rows if row.topic == "OrderFilled"]
    assert line.day == day_of(row.recorded_at_ns)


async def test_an_owner_outlives_the_intent(backend: Backend) -> None:
    """A bust after the deletion of its intent is booked for the same owner."""
    async with backend.open() as log:
        book = Book(log)
        await book.open()
        await book.order("b", Side.BUY, 100, 100_00, owner="mm-1")
        await book.fill("b", "t", 100, 100_00)
        await book.record(intent_stream("b"), IntentDeleted(intent_id="b"))
        await book.bust("b", "u", "t")
        assert [(line.owner, line.bought) for line in (await statement(log)).lines] == [("mm-1", 100), ("mm-1", -100)]


async def test_a_statement_of_an_unknown_market_keeps_the_integers(backend: Backend) -> None:
    """Without known scales the stored integers are shown as numbers."""
    async with backend.open() as log:
        book = Book(log)
        await book.order("b", Side.BUY, 100, 100_00)
        await book.fill("b", "t", 100, 100_00, fee=7)
        (item,) = listing(await statement(log)).items
    assert (item.data["bought"], item.data["paid"], item.data["fees"]) == (100, 1_000_000, {"USDT": 7})


async def test_a_statement_as_csv_has_every_column_and_no_control_character() -> None:
    """The CSV has a header and all columns, with control characters escaped."""
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


@given(acts=ACTS, held_max=st.sampled_from([1, 10]))
def test_entries_sum_to_the_positions(acts: list[tuple[Any, ...]], held_max: int) -> None:
    """After any fills, repeated reports, corrections and busts, and with any cache size, the entries add up to the ledger's
    position, profit and fees."""

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

"""The paper exchange's journal after damage: refused with a line number, or read up to a torn last line."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import IntegrityError
from kernel.order_spec import OcoMode
from kernel.venues import AmendDialect
from kernel.venues.paper.matching.config import PaperConfig, TapeTrade, full_symbols
from kernel.venues.paper.matching.engine import PaperEngine
from kernel.venues.paper.matching.journal import Journal
from tests.fuzz.mutations import damaged, fuzzed
from tests.paper_world import COIN, LAST, SELL, SYMBOL, HandClock, cancel, group, limit, market, modify, submit


@cache
def a_journal() -> bytes:
    """The journal of a day with orders, trades, a cancel, amends, a stop, a group, a correction, a bust and a halt."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "journal"
        clock = HandClock()
        journal = Journal(path)
        config = PaperConfig(symbols=full_symbols(), amend=AmendDialect.IN_PLACE, native_groups=frozenset(OcoMode))
        engine = PaperEngine(config, clock=clock, journal=journal)
        engine.submit(submit("rests", limit(), clock))
        engine.submit(submit("takes", market(quantity=COIN // 2), clock))
        engine.submit(submit("gone", limit(), clock))
        engine.cancel(cancel("gone", clock))
        engine.submit(submit("sells", market(SELL, quantity=COIN // 4), clock))
        engine.modify(modify("rests", limit(quantity=COIN // 2, display_quantity=COIN // 4), clock))
        stop = limit(SELL, price=LAST - 200, order_type="STOP_LIMIT", stop_price=LAST - 100)
        engine.submit_group(group(OcoMode.ONE_TRIGGERS_OTHER, clock, buy=limit(price=LAST - 50), sell=stop))
        engine.tape_trade(SYMBOL, TapeTrade(1, LAST - 100, COIN // 4, clock.now_ns(), buyer_is_maker=True))
        engine.correct(1, price=LAST)
        engine.bust(2)
        engine.halt(SYMBOL)
        engine.resume(SYMBOL)
        journal.close()
        return path.read_bytes()


def opened(content: bytes) -> bytes | None:
    """The file after an exchange was opened on it; None if it was refused, and then unchanged."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "journal"
        path.write_bytes(content)
        journal = Journal(path)
        try:
            PaperEngine(PaperConfig(), clock=HandClock(), journal=journal)
        except IntegrityError as error:
            assert error.position is not None  # noqa: PT017 the other end is fine too
            return None
        finally:
            journal.close()
        return path.read_bytes()


def check(content: bytes) -> None:
    """The journal is refused, or has whole lines from its beginning (at least its first line, new if it was lost)."""
    left = opened(content)
    if left is None:
        return
    lines = a_journal().splitlines(keepends=True)
    prefixes = {b"".join(lines[:count]) for count in range(1, len(lines) + 1)}
    assert left in prefixes, "a journal that is not what was written was taken"


@fuzzed(375)
@given(damaged(a_journal()))
def test_damage_anywhere(content: bytes) -> None:
    """Flips, cuts, insertions and repetitions are detected anywhere."""
    check(content)


@fuzzed(50)
@given(st.binary(max_size=100))
def test_any_bytes(content: bytes) -> None:
    """Any file without a journal's head is refused, except one without a whole line: that is a new journal."""
    left = opened(content)
    assert (left is None) == (b"\n" in content)


def test_every_byte() -> None:
    """One changed byte is detected at every position; in the last line end it makes a torn last line."""
    journal = a_journal()
    for at in range(len(journal)):
        content = journal[:at] + bytes([journal[at] ^ 1]) + journal[at + 1 :]
        if at == len(journal) - 1:
            assert opened(content) == b"".join(journal.splitlines(keepends=True)[:-1])
        elif at % 7 == 0 or journal[at : at + 1].isdigit():
            assert opened(content) is None, at


@pytest.mark.parametrize("number", [1, 3])
def test_a_lost_line_is_detected(number: int) -> None:
    """A removed, repeated or swapped line is detected although each line is intact."""
    lines = a_journal().splitlines(keepends=True)
    lost = lines[:number] + lines[number + 1 :]
    doubled = lines[: number + 1] + lines[number:]
    swapped = [*lines[:number], lines[number + 1], lines[number], *lines[number + 2 :]]
    assert [opened(b"".join(each)) for each in (lost, doubled, swapped)] == [None, None, None]

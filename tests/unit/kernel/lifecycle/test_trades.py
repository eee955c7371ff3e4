"""`Trades` values are immutable, though they share a list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kernel.lifecycle.orders.trades import NO_TRADES, TradeEntry, Trades

ENTRIES = st.builds(
    TradeEntry,
    fill_key=st.sampled_from(["a", "b", "c"]),
    quantity=st.integers(1, 3),
    price=st.integers(1, 2),
    time_ns=st.just(0),
    ref_fill_key=st.sampled_from([None, "a"]),
    fee=st.sampled_from([None, 1]),
    fee_asset=st.just("BNB"),
)


@given(st.lists(st.tuples(st.integers(0, 20), ENTRIES), max_size=20))
def test_values_are_immutable_however_they_grow(steps: list[tuple[int, TradeEntry]]) -> None:
    """Whichever values grow, in any order, each equals a tuple of the same entries."""
    values: list[tuple[Trades, tuple[TradeEntry, ...]]] = [(NO_TRADES, ())]
    for index, entry in steps:
        trades, entries = values[index % len(values)]
        values.append((trades.plus(entry), (*entries, entry)))
    for trades, entries in values:
        assert tuple(trades) == entries
        assert trades == Trades(entries)
        assert hash(trades) == hash(Trades(entries))
        assert (len(trades), bool(trades)) == (len(entries), bool(entries))
        assert trades.quantity == sum(entry.quantity for entry in entries)
        assert trades.notional == sum(entry.quantity * entry.price for entry in entries)
        assert trades.corrected == any(entry.ref_fill_key is not None for entry in entries)
        keys = [entry.fill_key for entry in entries]
        assert trades.reused_keys() == sorted({key for key in keys if keys.count(key) > 1})


@given(st.lists(ENTRIES, max_size=6), ENTRIES)
def test_an_entry_is_found_by_its_identity(entries: list[TradeEntry], entry: TradeEntry) -> None:
    """The first entry of the same fill key, quantity and price is found, even if a longer value shares the list."""
    trades = Trades(entries)
    trades.plus(entry)
    assert trades.same_as(entry) == next((item for item in entries if item.identity == entry.identity), None)


@given(st.lists(ENTRIES, max_size=6), st.lists(ENTRIES, max_size=6), st.booleans())
def test_since_returns_the_added_entries(entries: list[TradeEntry], more: list[TradeEntry], sharing: bool) -> None:
    """`since` returns the entries beyond a prefix, shared list or not; None if it is no prefix."""
    before, after = Trades(entries), Trades(entries)
    if sharing:
        after = before
    for entry in more:
        after = after.plus(entry)
    assert after.since(before) == more
    if more:
        assert before.since(after) is None
        assert Trades([more[0]._replace(quantity=9), *entries]).since(Trades(more)) is None

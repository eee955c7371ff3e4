"""The trades of an order are a value: however they share what they have, none changes another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kernel.lifecycle.trades import NO_TRADES, TradeEntry, Trades

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
def test_each_value_keeps_what_it_was_made_with(steps: list[tuple[int, TradeEntry]]) -> None:
    """Whichever values grow, in whatever order, each is what a tuple of the same entries would be."""
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
def test_an_entry_is_found_by_what_it_is(entries: list[TradeEntry], entry: TradeEntry) -> None:
    """The first of the same fill key, quantity and price is found, also where a longer value shares its list."""
    trades = Trades(entries)
    trades.plus(entry)
    assert trades.same_as(entry) == next((item for item in entries if item.identity == entry.identity), None)


@given(st.lists(ENTRIES, max_size=6), st.lists(ENTRIES, max_size=6), st.booleans())
def test_what_was_added_is_told(entries: list[TradeEntry], more: list[TradeEntry], sharing: bool) -> None:
    """What one value has beyond another is told where it begins with it, whether they share a list or not; else None."""
    before, after = Trades(entries), Trades(entries)
    if sharing:
        after = before
    for entry in more:
        after = after.plus(entry)
    assert after.since(before) == more
    if more:
        assert before.since(after) is None
        assert Trades([more[0]._replace(quantity=9), *entries]).since(Trades(more)) is None

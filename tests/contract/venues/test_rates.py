"""Rate limits at every venue: which are declared, what a refusal names, and the counters of all clients."""

from __future__ import annotations

import pytest

from kernel.clock import NS_PER_S
from kernel.errors import Rejected
from kernel.models import ExecType
from kernel.venues.base import Operation as Counted
from kernel.venues.base import RateLimit, RateLimitKind
from tests.contract.venue_worlds import CLOCK, MakeWorld
from tests.contract.venues.test_venue import place
from tests.paper_world import SYMBOL, cancel


async def test_the_rate_limit(make_world: MakeWorld) -> None:
    """A call over the limit names the limit and the retry delay, and is not executed."""
    limits = (RateLimit(kind=RateLimitKind.REQUEST_WEIGHT, window_ns=60 * NS_PER_S, limit=3),)
    venue = await (await make_world(rate_limits=limits)).venue()
    for name in "abc":
        await place(venue, name)
    with pytest.raises(Rejected) as caught:
        await place(venue, "d")
    assert (caught.value.code, caught.value.rate_limit) == ("-1003", RateLimitKind.REQUEST_WEIGHT)
    assert 0 < (caught.value.retry_after_s or 0) <= 60
    assert len((await venue.truth())["orders"]) == 3


async def test_new_orders_have_a_limit_of_their_own(make_world: MakeWorld) -> None:
    """With a limit on ORDERS, cancels pass when orders do not."""
    limits = (RateLimit(kind=RateLimitKind.ORDERS, window_ns=60 * NS_PER_S, limit=1, weights={Counted.SUBMIT: 1}),)
    venue = await (await make_world(rate_limits=limits)).venue()
    await place(venue, "a")
    with pytest.raises(Rejected) as caught:
        await place(venue, "b")
    assert (caught.value.code, caught.value.rate_limit) == ("-1015", RateLimitKind.ORDERS)
    assert (await venue.cancel(cancel("a", CLOCK))).exec_type is ExecType.CANCELED


async def test_answers_carry_the_accounts_counters(make_world: MakeWorld) -> None:
    """Each answer, refusals included, carries the counters with the calls of other sessions."""
    weights = {Counted.SUBMIT: 2, Counted.CANCEL: 1, Counted.ORDER: 4}
    limit = RateLimit(kind=RateLimitKind.REQUEST_WEIGHT, window_ns=60 * NS_PER_S, limit=10, weights=weights)
    world = await make_world(rate_limits=(limit,))
    ours, theirs = await world.venue(), await world.venue()
    assert ours.capabilities.rate_limits == (limit,)
    await place(theirs, "a")
    await theirs.order(SYMBOL, "a", None)
    await place(ours, "b")
    with pytest.raises(Rejected):
        await ours.order(SYMBOL, "b", None)
    assert [item.used for item in ours.rate_usage] == [8]
    await ours.cancel(cancel("b", CLOCK))
    assert [(item.kind, item.window_ns, item.used) for item in ours.rate_usage] == [(limit.kind, limit.window_ns, 9)]

"""What every venue says of its rate limits: which it takes, what a refusal tells, and what all clients have spent."""

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
    """One request too many says which limit is over and when to come back, and is not carried out."""
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
    """Where only new orders are counted, a cancel passes when no order does."""
    limits = (RateLimit(kind=RateLimitKind.ORDERS, window_ns=60 * NS_PER_S, limit=1, weights={Counted.SUBMIT: 1}),)
    venue = await (await make_world(rate_limits=limits)).venue()
    await place(venue, "a")
    with pytest.raises(Rejected) as caught:
        await place(venue, "b")
    assert (caught.value.code, caught.value.rate_limit) == ("-1015", RateLimitKind.ORDERS)
    assert (await venue.cancel(cancel("a", CLOCK))).exec_type is ExecType.CANCELED


async def test_answers_tell_what_all_clients_have_spent(make_world: MakeWorld) -> None:
    """Each answer, a refusal too, brings the account's counter of each limit, with what another session has spent."""
    weights = {Counted.SUBMIT: 2, Counted.CANCEL: 1, Counted.ORDER: 4}
    limit = RateLimit(kind=RateLimitKind.REQUEST_WEIGHT, window_ns=60 * NS_PER_S, limit=10, weights=weights)
    world = await make_world(rate_limits=(limit,))
    ours, theirs = await world.venue(), await world.venue()
    assert ours.capabilities.rate_limits == (limit,)
    await place(theirs, "a")
    await theirs.order(SYMBOL, "a")
    await place(ours, "b")
    with pytest.raises(Rejected):
        await ours.order(SYMBOL, "b")
    assert [item.used for item in ours.rate_usage] == [8]
    await ours.cancel(cancel("b", CLOCK))
    assert [(item.kind, item.window_ns, item.used) for item in ours.rate_usage] == [(limit.kind, limit.window_ns, 9)]

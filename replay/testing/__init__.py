"""Test support for strategies and adapters: a venue that a script controls, and virtual time.

A whole kernel runs on virtual time in one process, in milliseconds, and takes the same steps every time::

    from kernel.order_spec import OrderType, Side, StandardOrder
    from replay import open_kernel
    from replay.testing import ScriptedVenue, VirtualClock, run_virtually


    async def a_lost_answer() -> str:
        clock = VirtualClock()
        venue = ScriptedVenue(clock=clock)
        async with open_kernel("memory://", exchange_id="test", venue=venue, clock=clock) as kernel:
            await kernel.wait_ready()
            venue.exchange.hold("submit-answer")  # the order arrives, its answer does not
            bid = StandardOrder(symbol_id="S", side=Side.BUY, order_type=OrderType.LIMIT, quantity=2, price=100)
            intent_id = await kernel.place_order(bid, ack_timeout_s=1)
            venue.exchange.flow()
            venue.exchange.fill("#0", 2)
            await clock.advance(60)
            assert len(venue.exchange.orders) == 1  # found by its client order id, not sent again
            return (await kernel.get_order_state(intent_id)).status.ord_status


    assert run_virtually(a_lost_answer) == "FILLED"

Use a log at `memory://` and `async def` callbacks: on virtual time nothing outside of the loop can be awaited (no files, no
sockets, no threads).

- `virtual_clock`: `VirtualClock`, the clock of the virtual loop; `advance` lets time pass.
- `scripted_exchange`: `ScriptedExchange` and its script. `hold` and `flow` control the legs of requests (`submit`,
  `submit-answer`, `cancel`, `cancel-answer`, `order-answer`, `snapshot-answer`) and `reports`; `deliver` and `lose` what is
  held; `fill`, `cancel`, `expire`, `bust`, `halt` and `disconnect` act on the exchange; `script.refusal` refuses submits.
- `scripted_venue`: `ScriptedVenue`, one kernel's connection to it.
- `conformance`: the conformance kit for adapters, a pytest plugin.
- `replay.whatif.virtual_loop`: `VirtualLoop` and `run_virtually`.
"""

from kernel.platform.lazy_exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__)

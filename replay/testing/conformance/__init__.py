"""The conformance kit: checks that an adapter keeps the promises of the port, and that its capabilities are true.

    pytest --pyargs replay.testing.conformance --venue NAME --config FILE.toml [--live]

A capability that is claimed must be observed, and one that is not claimed must be absent: both are failures. An ability
that the venue lacks is no failure: the matrix at the end names what the kernel cannot guarantee without it. Every order
that a case or its kernel places is canceled at its end, whatever happened; other orders of the account are not touched.
An account that is not a sandbox is used only with `--live`.

    [conformance]
    symbol = "BTCUSDT"          # where orders are placed
    quantity = "0.001"          # of each order
    rest_price = "30000"        # a buy order rests at this price
    sandbox = true              # the account holds no real money
    remove = ["lookup"]         # abilities to take away from the adapter, to see what is left

    [venue]                     # the adapter's own options
    key_file = "key.pem"

    [[waivers]]                 # a case that may fail, with the reason, until a date
    case = "O-07"
    reason = "the testnet accepts a client order id twice"
    expires = 2027-03-31

- `abilities`: what a venue may be able to do, and what is lost without it.
- `target`: the adapter under test, found under the entry points `exchange_kernel.venues`, and the kit's configuration.
- `reduced_venue`, `faulty_venue`: an adapter without some abilities; an adapter whose requests and answers get lost.
- `bench`: what a case works with: a connected adapter, orders, a kernel, and the clean-up.
- `plugin`: options, fixtures and the matrix.
- `test_port`, `test_orders`, `test_kernel`: the cases, with stable ids.
"""

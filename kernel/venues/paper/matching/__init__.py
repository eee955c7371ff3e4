"""The paper exchange's deterministic core: no I/O except the journal, and time only from the injected clock.

- `config`: configuration: symbols, account, fees, latency, capabilities.
- `matching_rules`: the pure matching function and the synthetic depth.
- `market`: one symbol's market as shown by the tape.
- `changes`: the journal's entries, one model per kind.
- `orders`: one order and its successive versions.
- `book`: orders, trades and balances as a fold of changes.
- `rate_limits`: the account's rate limits.
- `journal`: the durable file of changes.
- `transaction`: the changes that one request causes, before they are committed.
- `order_checks`: checks on an order before it is accepted.
- `contingent`: order groups managed by the exchange.
- `amend`: changing a working order.
- `reports`: execution reports built from changes.
- `engine`: requests in, reports out.
"""

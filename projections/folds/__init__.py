"""Parts of the state, each folded from events. Made and called by `state_data` and `state_fold`.

From the lowest layer to the highest:

- `findings`: findings, open and resolved.
- `groups`: groups of contingent orders and their members' fills.
- `reference`: symbols and assets, as last observed.
- `rejection_storms`: recent equal rejections, counted for the circuit breaker.
- `indexes`: intents by id, symbol, group and liveness.
- `exposure`: open risk by symbol, for the pre-trade limits.
- `ledger`: positions, expected balances and drift.
- `external_orders`: venue orders that belong to no intent.
"""

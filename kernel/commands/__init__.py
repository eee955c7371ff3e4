"""Commands of strategies and operators, lowest layer first.

- `validation`: validates records and orders before they are stored.
- `place_group`: turns `place_order_group` into events. Pure.
- `limit_gate`: checks pre-trade limits and reserves the risk of commands under way.
- `handler`: decides commands and appends their events.
- `operator`: pause, halt, resume, resolve a finding.
- `waiters`: waits for the venue's answer to a command.
"""

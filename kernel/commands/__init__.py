"""commands

- `handler`: How a command becomes events.
- `limit_gate`: The gate that commands pass before they are appended: pre-trade limits, under all that this kernel
  has on its way.
- `operator`: What an operator commands: pause, halt and resume, and that a finding was dealt with.
- `place_group`: `place_order_group`: how orders that depend on each other become events, in one append. Pure.
- `validation`: What is given from outside, checked before anything is recorded: what could not be read again must
  never be stored.
- `waiters`: How the answer to a command is waited for: who waits for news of which intent, and what counts as an
  answer.
"""

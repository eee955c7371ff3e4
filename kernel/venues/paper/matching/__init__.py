"""matching

- `amend`: How the paper exchange changes a working order: in place, or by another order in its place.
- `book`: The state of a paper exchange: orders, trades and balances, as a fold of changes, now and a while ago.
- `changes`: What can change in a paper exchange: one frozen model per kind of change, and its line in the journal.
- `config`: What a paper exchange is like: its market, its rules for requests, its account, its delays.
- `contingent`: Groups that the paper exchange works by itself: what a fill or an end of one order does to the others.
- `engine`: The paper exchange's engine: takes requests, matches, keeps its books, reports. Synchronous, and
  deterministic.
- `journal`: The paper exchange's journal: one JSON line per request that changed something, on disk before its
  answer is sent.
- `market`: One symbol's market as the tape shows it: last price, recent volume by price, and the seeded ladder.
- `matching_rules`: The matching rules of the paper exchange: one pure function, and the integer arithmetic of fees
  and of the ladder.
- `order_checks`: What the paper exchange refuses before it takes an order: in its words and with Binance's codes.
- `orders`: One order of the paper exchange, and what each change makes of it: pure functions from an order to the
  next version.
- `rate_limits`: The paper exchange's rate limits: what its one client account has spent in each window, sliding or
  aligned.
- `reports`: Execution reports of the paper exchange, built from a change and the order as it is after it.
- `sequence`: The instants and the ids that a paper exchange gives: each later, or higher, than every one before.
- `transaction`: What a request to the paper exchange would come to: the changes decided so far, and the orders as
  they would be then.
- `triggers`: Stop orders and ends by time: what the market's last price, and the exchange's clock, set off.
"""

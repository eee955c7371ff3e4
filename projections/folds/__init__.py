"""folds

- `exposure`: What is at stake in each symbol, summed up: for the pre-trade limits.
- `external_orders`: Orders that are nobody's intent, as the venue showed them, and their trades. Folded by
  `StatusRule`.
- `findings`: What should not be, and is: findings raised and resolved. Folded by `StatusRule`.
- `groups`: Groups: which intents depend on each other, and what has filled of each. Folded by `StatusRule`.
- `indexes`: Where things are: which intent has which id, symbol, group; which are live; in which order they came.
- `ledger`: What fills come to: positions, and what balances should be. Integer arithmetic, in this one place.
- `reference`: Symbols and assets, as last observed. Folded by `StatusRule`.
- `rejection_storms`: Storms: so many equal rejections of different intents' orders in a symbol that it is better to
  stop and ask.
"""

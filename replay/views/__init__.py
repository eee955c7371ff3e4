"""views

- `conditions`: Waiting for an intent to get somewhere: the conditions that `wait` and `place --wait` know.
- `describe`: What `describe` prints: all about one intent, one group, or one order that is no intent's, on one
  page, for people.
- `differences`: How intents and actual orders differ: what `diff` lists without a manifest, and the words of it
  that others show too.
- `events`: What `events` prints: the log as it is stored, from a position on, of one intent, of some types, once or
  for ever.
- `explain`: What `explain` prints: what the fields of a record or an event mean, from the models themselves.
- `gauges`: Gauges that are read at the moment when metrics are collected: how far the fold is, what is unknown,
  what differs.
- `groups`: Groups as they are shown: what each has, what it lets each of its orders be now, and why.
- `health`: Whether a kernel acts on a log, as far as the log tells: from outside of the process that leads.
- `listing`: What `get` prints: intents, orders, fills, positions, the account, symbols, groups, findings; listed
  once, or watched.
- `metrics`: A kernel's metrics for others to read: Prometheus's text format, tables and JSON; from a kernel that
  runs, or from a log.
- `resources`: The types that `get` knows: what of a state belongs to each, and the line of a table that shows it.
- `top`: What `top` shows: how a kernel stands at one instant, as tables; kept up to date from the log, event by event.
- `top_screen`: Draws what `top` found with rich: once, or as a screen that goes on.
"""

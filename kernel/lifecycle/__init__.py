"""The order lifecycle: facts in, statuses out. Pure functions; they call nothing above this package.

- `shared_sequence`: the base of what is folded, and a sequence that grows in constant time.
- `trades`: the known trades of one order, an immutable sequence.
- `order_facts`: the facts of one venue order, and its quantities.
- `order_status`: the FIX order states as one table.
- `apply_report`: the change that each report makes to an order's facts.
- `attempt_outcome`: what an order's facts tell about an attempt.
- `trigger_chain`: orders that follow another: triggered stops, replaced orders.
- `record`: everything known about one intent, and the order state derived from it.
- `disagreement`: the backoff of attempts that change nothing.
- `settled_orders`: orders that ended long ago leave the record's view, and come back.
- `evolve`: a record and an event to the next record.
- `remediation`: the remedy for each kind of finding.
- `findings`: the conditions of an intent that need attention.
- `decide`: a command to events.
- `decide_resolution`: an operator's resolution of an attempt or a finding to events.
- `decide_report`: a venue report to events.
- `attribution`: requests whose outcome is not known; an external order that turns out to be such a request's to events.
"""

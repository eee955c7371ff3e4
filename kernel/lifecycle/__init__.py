"""The order lifecycle: facts in, statuses out. Pure functions; they call nothing above this package.

- `orders`: what is known of one venue order.
- `apply_report`: the change that each report makes to an order's facts.
- `order_identity`: the order that a report is about.
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

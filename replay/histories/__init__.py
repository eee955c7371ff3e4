"""Views of a log over time: one order's history, differences of two states, daily statements.

- `order_history`: collect the events of one intent with their causes.
- `order_history_text`: format a history as text or data.
- `timeline_html`: draw a history as an HTML page.
- `state_diff`: compare the states at two positions.
- `statement`: sum up trades by day, owner and symbol.
"""

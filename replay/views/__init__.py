"""The views of a kernel and its log, for people and programs. Reads only.

From the lowest layer to the highest:

- `groups`: groups, the quantity that each permits its orders, and why.
- `resources`: the resource types of `get` and their rows.
- `conditions`: waits for a condition on an order.
- `differences`: intents compared with actual orders, and the next action.
- `listing`: what `get` lists and watches.
- `describe`: the page of one intent, group or external order.
- `events`: the log's events as stored.
- `explain`: the fields of models and events.
- `health`: whether a kernel acts on the log, seen from outside.
- `gauges`: Prometheus gauges read at collection.
- `metrics`: metrics as Prometheus text, table or JSON.
- `top`, `top_screen`: the frames of the dashboard, and their drawing.
"""

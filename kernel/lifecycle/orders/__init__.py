"""What is known of one venue order, and what follows from it alone. Records and rules of intents build on it.

- `shared_sequence`: the base of what is folded, and a sequence that grows in constant time.
- `trades`: the known trades of one order, an immutable sequence.
- `order_facts`: the facts of one venue order, and its quantities.
- `order_status`: the FIX order states as one table.
- `trigger_chain`: orders that follow another: triggered stops, replaced orders.
- `attempt_outcome`: what an order's facts tell about an attempt.
"""

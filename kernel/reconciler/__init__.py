"""The reconciler: makes the orders at a venue match the intents.

- `rate_limiter`: the venue's rate limits: capacity, reservations and priorities.
- `requeue_backoff`: backoff of runs by key and kind of action, in memory.
- `result`: the result of a run, for the work queue.
- `admission`: whether a run may begin under the rate limits.
- `run_inputs`: everything that a decision reads, as one value.
- `attempt_resolution`: what a status query proves about an attempt; pure.
- `decision`: what a run will do, as one value.
- `decide_run`: inputs to a decision; pure.
- `order_sender`: sends one request and records its outcome.
- `group_sender`: sends a group of orders in one request.
- `status_query`: queries the venue and records the answers.
- `venue_reconciler`: the queue, the workers and the run at a venue.
- `engine`: `ReconciliationEngine`, with or without a venue.
"""

from kernel.reconciler.engine import ReconciliationEngine

__all__ = ["ReconciliationEngine"]

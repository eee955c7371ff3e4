"""reconciler

- `admission`: Rate-limit admission: whether a run may begin under the venue's rate limits, before it appends or
  sends (step 5).
- `attempt_resolution`: The resolution of attempts whose outcome is unknown: the protocol's table, as functions of
  their arguments.
- `decide_run`: The decision of one reconciler run: a pure function from an intent, its order and their context to a
  `Decision`.
- `decision`: The value that a reconciler run decides on: what the run will do, with the exact `AttemptStarted` that
  it appends.
- `engine`: The reconciliation engine: makes the orders at an exchange match the intents. The seed's
  `ReconciliationEngine`.
- `group_sender`: One send for a whole group: the orders that the venue is to manage together, in one request.
- `order_sender`: One send: appended, checked, written once, answered. Steps 6 to 8 of the protocol.
- `rate_limiter`: The rate limits of one venue: how many calls it still takes, and which priority goes first where
  that is too few.
- `requeue_backoff`: The requeue backoff of runs that resolved nothing: by key and kind of action, doubling, with
  full jitter.
- `result`: The result of a reconciler run. `VenueReconciler.requeue` turns it into the next step of the work queue.
- `run_inputs`: Everything that the decision of a reconciler run reads, as one frozen value.
- `status_query`: Order status queries: what became of an attempt, what an order came to. Step 3 of the protocol.
- `venue_reconciler`: The reconciler at a venue: a queue of intents, workers, and everything through which a
  decision reaches log and venue.
"""

from kernel.reconciler.engine import ReconciliationEngine

__all__ = ["ReconciliationEngine"]

"""safety

- `heartbeat`: Who is silent: what heartbeats in the log come to, and whether an owner was heard within its time. Pure.
- `readiness`: The conditions under which the kernel acts. Fail closed: while one is missing, commands are recorded
  and nothing is sent.
- `trading_halts`: What holds requests back, as the log says: pauses, halts and storms. Folded by `StatusRule`,
  asked by the reconciler.
"""

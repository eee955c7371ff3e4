"""Conditions under which requests are sent, lowest layer first.

- `limit_settings`: pre-trade limits.
- `readiness`: the conditions under which the kernel acts.
- `trading_halts`: pauses, halts and rejection storms. Pure.
- `heartbeat`: the dead-man switch of owners. Pure.
"""

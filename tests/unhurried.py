"""Hypothesis without a stopwatch: a property that holds on a busy machine is the same property.

Used as a decorator above `@given` by the property tests.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

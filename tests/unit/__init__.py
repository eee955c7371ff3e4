"""Tests of pure functions, property-based where a property is known."""

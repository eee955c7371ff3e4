"""Scenarios as data: inputs, recorded events, and the outcome."""

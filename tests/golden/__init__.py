"""Stored bytes that every later version must read and verify."""

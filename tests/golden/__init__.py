"""Stored bytes that must be read and verified for ever."""

"""Aggregates rows by key and window."""

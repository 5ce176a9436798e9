"""Joins a stream with a table."""

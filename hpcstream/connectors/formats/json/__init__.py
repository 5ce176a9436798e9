"""Reads JSON, one object a line."""

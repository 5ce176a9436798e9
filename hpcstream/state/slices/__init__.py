"""Holds words of state for each slice and key: the store, its layouts, and its table."""

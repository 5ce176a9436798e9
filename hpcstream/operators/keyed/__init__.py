"""Operators that handle the rows of each key in event order, and what they keep of a key."""

"""Rows as state: columns of any type by place, and rows in buckets of event time."""

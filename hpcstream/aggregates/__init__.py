"""Aggregates: their accumulators, results, and form on the way between ranks."""

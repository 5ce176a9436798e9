"""Metrics, summaries, progress lines, and doubts about event time."""

"""Governs the process of a rank: launcher, signals, children, tracebacks, exit."""

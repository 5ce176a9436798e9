"""The process: its launcher, signals, children, tracebacks, and how it ends."""

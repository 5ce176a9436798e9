"""The built-in aggregates, one file per family."""

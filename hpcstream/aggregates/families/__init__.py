"""Computes the built-in aggregates, with a file for each family."""

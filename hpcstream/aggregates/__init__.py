"""Defines the aggregates: what each accumulates of its rows, and how it makes results of that."""

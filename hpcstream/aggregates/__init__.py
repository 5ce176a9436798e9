"""Defines the aggregates: the state that each accumulates, and how it computes results from it."""

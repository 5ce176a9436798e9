"""Edges: rounds of batches over nonblocking collectives."""

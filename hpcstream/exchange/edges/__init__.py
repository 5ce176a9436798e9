"""Carries rounds of batches over nonblocking collectives."""

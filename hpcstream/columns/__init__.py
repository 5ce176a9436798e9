"""Handles columns of batches: types, values, keys, order, and the engine's hidden ones."""

"""Arrow columns: their types, values, keys, order, and the hidden ones of the engine."""

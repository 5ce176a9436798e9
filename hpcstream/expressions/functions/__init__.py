"""Binds each function of an expression to Arrow's kernels, by the types of its arguments."""

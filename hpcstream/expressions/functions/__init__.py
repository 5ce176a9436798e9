"""Binds functions of expressions to Arrow's kernels, by the types of their arguments."""

"""The dataflow graph: logical nodes, rewrites, and the physical plan."""

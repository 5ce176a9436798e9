"""Plans a job: the logical graph, its rewrites, and the physical graph of tasks and edges."""

"""Where data lies: NUMA topology, arenas, buffer pools, and Arrow columns as arrays."""

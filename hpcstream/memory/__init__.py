"""Memory: NUMA-aware arenas, shared blocks, pools and the topology of cores."""

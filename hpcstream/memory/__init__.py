"""Allocates memory: NUMA-aware arenas, arenas in shared memory, and pools."""

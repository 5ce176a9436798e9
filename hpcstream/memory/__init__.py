"""Allocates memory: NUMA-aware arenas, blocks that ranks share, and pools."""

"""Reading sources: readers, pacing of rounds, turns."""

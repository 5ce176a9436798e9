"""How one trial is measured: its process, its memory, the machine."""

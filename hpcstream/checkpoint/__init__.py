"""Turns copies of state into checkpoint files and back; `runtime.checkpoints` decides when."""

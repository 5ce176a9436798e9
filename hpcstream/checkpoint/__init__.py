"""Checkpoints as files: their format, the directory they live in, and who writes them.

Nothing here knows operators, MPI or rounds: a checkpoint is named arrays and a
manifest in JSON. `hpcstream.runtime.checkpointing` decides when and what.
"""

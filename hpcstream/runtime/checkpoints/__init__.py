"""Checkpoints of a running job, and its restart from one."""

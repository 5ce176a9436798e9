"""Takes checkpoints of a running job, and restarts a job from one."""

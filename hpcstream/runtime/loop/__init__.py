"""Orders the work of one rank: edges, control, tasks, checkpoints, sleep."""

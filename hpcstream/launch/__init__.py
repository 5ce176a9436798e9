"""Starting a job: launchers, restarts, and the first compilation of kernels."""

"""Starts, supervises and restarts the ranks of a job, and compiles its kernels."""

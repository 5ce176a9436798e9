"""Starts and supervises the ranks of a job, restarts it, and compiles kernels before it."""

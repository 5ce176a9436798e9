"""Finds out what a host offers a job, and what a process uses of it."""

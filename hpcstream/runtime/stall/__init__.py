"""Finds out what a job that does not move waits for."""

"""Runs a physical plan: tasks, rounds, control, telemetry."""

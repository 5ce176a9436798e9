"""Runs operators on the rounds of a task's inputs and closes rounds on its outputs."""

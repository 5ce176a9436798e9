"""Holds the state of operators in tables that checkpoints copy, restore and deal."""

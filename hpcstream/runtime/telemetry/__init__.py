"""Counts on one rank and gathers the counts of all ranks while the job runs."""

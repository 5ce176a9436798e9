"""What runs: rows, queries, and the answers that are right."""

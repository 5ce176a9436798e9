"""Sets one run up, claims its outputs, and reports what it did."""

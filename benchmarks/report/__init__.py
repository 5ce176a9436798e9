"""Records on disk, and the tables, plots and report made of them."""

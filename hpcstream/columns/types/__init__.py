"""Types of columns: their names, and the normalization of Arrow's encodings."""

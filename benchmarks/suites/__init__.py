"""Which trials run, in which order, and what is recorded of them."""

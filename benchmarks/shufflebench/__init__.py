"""ShuffleBench: records matched to consumers, all to all, and state for each of them."""

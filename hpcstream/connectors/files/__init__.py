"""Files as sources: finding, identifying and slicing them."""

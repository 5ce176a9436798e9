"""Small parts of our own path against what the machine allows: exchange and kernels."""

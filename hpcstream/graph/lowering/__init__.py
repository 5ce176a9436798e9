"""How operators that have several physical forms are divided into stages."""

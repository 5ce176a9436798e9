"""Workarounds for single versions of single MPIs; `registry` lists them all."""

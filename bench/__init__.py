"""The scripts behind every figure in the README; each one's docstring says how to run it."""

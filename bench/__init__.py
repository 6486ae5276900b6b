"""Every number in the README comes from here; each script's docstring says how to run it."""

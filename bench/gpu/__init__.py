"""Every check that takes a GPU; see __main__.py."""

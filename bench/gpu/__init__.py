"""All checks that need a GPU; see __main__.py."""

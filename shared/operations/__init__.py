"""Registry of operations and the built-in ones."""

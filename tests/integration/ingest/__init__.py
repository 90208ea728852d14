"""The HTTP API on a real log and a real database."""

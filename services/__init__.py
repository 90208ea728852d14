"""The services: each is one process; none imports another."""

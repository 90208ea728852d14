"""The compute service on a real broker."""

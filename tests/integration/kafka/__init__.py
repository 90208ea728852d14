"""The log's clients against a real broker."""

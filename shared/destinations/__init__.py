"""Which destinations are disabled: read from the compacted topic, followed, and changed."""

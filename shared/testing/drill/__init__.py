"""A drill: known work through a running system, and a verdict on what became of every request."""

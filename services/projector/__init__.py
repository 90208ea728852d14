"""Projects the event log into the read-side tables."""

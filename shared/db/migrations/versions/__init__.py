"""Versions of the read side's schema, each a frozen statement of what was."""

"""Faults that are done to a running system, by a schedule."""

"""Helpers for tests and demonstrations: wait-until, receivers, stacks."""

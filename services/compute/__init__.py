"""Computes requests in isolated slots and records their outcomes."""

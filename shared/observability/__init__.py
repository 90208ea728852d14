"""Structured logs, metrics and the trace context."""

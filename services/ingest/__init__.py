"""Accepts requests over HTTP, answers sync callers, serves queries."""

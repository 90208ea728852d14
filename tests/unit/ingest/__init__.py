"""The HTTP API, part by part."""

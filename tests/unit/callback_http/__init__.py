"""The pure parts of the HTTP side of the callback service."""

"""The embedded stack: a real broker and database without Docker or root."""

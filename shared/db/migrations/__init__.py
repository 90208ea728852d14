"""Alembic environment of the read side."""

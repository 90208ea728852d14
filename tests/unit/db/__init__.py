"""Tests of the read side that need no database."""

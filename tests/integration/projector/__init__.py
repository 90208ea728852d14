"""Tests of the projector on a real broker and database."""

"""Tests of the operations and their registry."""

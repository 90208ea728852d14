"""Tests of the slots; they need no broker."""

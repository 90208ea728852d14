"""Tests of the callback service on a real broker."""

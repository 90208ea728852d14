"""Delivers outcomes to receivers by signed HTTP callbacks."""

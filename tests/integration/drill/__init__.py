"""The drill against a real broker: its producers, and what it reads."""

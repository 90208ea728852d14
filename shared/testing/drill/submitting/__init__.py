"""Known work, and the ways in by which it is submitted."""

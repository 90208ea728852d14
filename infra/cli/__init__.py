"""The `consuma` command."""

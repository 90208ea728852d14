"""Pure rules: states, decide and evolve. Imports the standard library only."""

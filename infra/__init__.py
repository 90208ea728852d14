"""Running consuma: the command line and the embedded stack."""

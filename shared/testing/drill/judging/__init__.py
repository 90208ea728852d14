"""The ledger of what was promised, evidence of what came, and the verdict."""

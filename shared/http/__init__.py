"""HTTP plumbing shared by services: health, problems, metrics."""

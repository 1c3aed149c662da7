"""What scripts/docs writes of the command line: each form of it from click's own model."""

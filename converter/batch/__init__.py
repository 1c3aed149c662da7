"""Many images at once: what they share is planned as a graph of tasks, then done once."""

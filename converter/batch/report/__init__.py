"""What is told of a batch: as JSON, as a page, as metrics. Events in, documents out; all pure."""

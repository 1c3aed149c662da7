"""Images: how they are named, what they are, where they come from."""

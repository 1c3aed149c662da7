"""The file tree as a value, and what a layer does to it. Pure."""

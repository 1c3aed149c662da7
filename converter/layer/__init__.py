"""A layer's blob as a sequence of entries: decompress, verify, read the archive, apply its rules."""

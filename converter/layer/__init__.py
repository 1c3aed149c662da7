"""A layer's blob as entries: decompress, verify, read the archive, know its rules."""

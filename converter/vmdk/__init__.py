"""VMDK files: links written, read, followed to their parents, checked. Knows nothing of ext4."""

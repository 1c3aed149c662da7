"""An append-only ext4 writer: changes of a tree in, blocks out. Knows nothing of VMDK."""

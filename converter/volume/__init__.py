"""Named volumes: disks that outlive machines. Owns their folder, their disks, and who uses them.

Knows nothing of machines but an id, a name and whether a machine's folder is still there.
"""

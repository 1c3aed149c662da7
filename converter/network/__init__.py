"""A machine's networks: what is asked for, which ports are published, and QEMU's user network.

Knows nothing of images, disks and machines; what runs is others' matter.
"""

"""Virtual machines made from chains. Owns drivers, and running a machine in the foreground.

Knows files of disks and boot images, nothing of layers, registries or file systems.
"""

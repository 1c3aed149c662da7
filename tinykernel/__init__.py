"""The boot image: a distribution kernel and an initramfs that holds CPython and tether.

Owns how a boot image is made and recorded; knows nothing of disks, registries or hypervisors.
"""

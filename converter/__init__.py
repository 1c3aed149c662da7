"""saltflat on the host: from an image reference to disks, packages and machines."""

__version__ = "0.1.0"

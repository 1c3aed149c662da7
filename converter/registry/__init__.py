"""The distribution API over HTTP. Knows nothing of disks."""

"""The line between a machine and its host: the protocol, the guest's end, the host's end."""

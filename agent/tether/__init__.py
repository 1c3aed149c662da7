"""The guest's end: PID 1 that runs one image's process and relays its stdio to the host.

Owns everything that happens inside the virtual machine between the kernel's start of /init and
power-off. Standard library only, Python 3.8 syntax and library: guests choose their own Python.
Knows nothing of disks' making or of the hypervisor; both ends meet in `agent.wire` alone.
"""

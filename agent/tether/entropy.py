"""Give the kernel's random numbers something that nobody outside knows: what the host has sent.

A virtual machine has little that is random at its start, and one without RDRAND nothing. The key
is: the host makes it anew for each boot, or once for a machine, and it is erased from its source.
"""

from __future__ import annotations

import fcntl
import os
import struct

from agent.bare_hashes import blake2b
from agent.tether import log

RNDADDENTROPY = 0x40085203  # linux/random.h: _IOW('R', 0x03, int [2])
_POOL_INFO = struct.Struct("=ii")  # struct rand_pool_info: bits of entropy, bytes that follow
_PERSON = b"saltflat seed"
_SEED_BYTES = 32


def seed(key: bytes, device: str = "/dev/urandom") -> None:
    """Mix what follows from `key` into the pool; a kernel that refuses is no error.

    The key does not follow from it, so nothing that the pool gives away betrays it.
    """
    data = blake2b(key=key, person=_PERSON, digest_size=_SEED_BYTES).digest()
    try:
        descriptor = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, RNDADDENTROPY, _POOL_INFO.pack(8 * len(data), len(data)) + data)
        finally:
            os.close(descriptor)
    except OSError as error:
        log.info("the pool of random numbers takes no seed: {}".format(error.strerror))

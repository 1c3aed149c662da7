"""The key of a machine's channel, in the relay's folder. Owns the file `key`.

The relay alone holds it: 64 hexadecimal digits, mode 0600. Another key begins another session; that
is also how a machine whose relay lost its state is opened again, once the guest was told.
"""

from __future__ import annotations

import os
from pathlib import Path

from agent.host.errors import ChannelError

KEY_NAME = "key"
KEY_BYTES = 32


def write_key(folder: Path, key: bytes) -> None:
    """Give a machine's relay its key. Raises OSError, ValueError on a key of another length."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key of {len(key)} bytes, not {KEY_BYTES}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = folder / f"{KEY_NAME}.new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(f"{key.hex()}\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(folder / KEY_NAME)


def read_key(folder: Path) -> bytes:
    """Return a machine's key. Raises ChannelError when there is none."""
    path = folder / KEY_NAME
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise ChannelError(
            f"The key of the machine could not be read from {path}: {error}.",
            expected=f"{2 * KEY_BYTES} hexadecimal digits",
        ) from error
    if len(key) != KEY_BYTES:
        raise ChannelError(
            f"The key in {path} has {len(key)} bytes.",
            expected=f"{2 * KEY_BYTES} hexadecimal digits",
        )
    return key

"""What is said when the store has no room for more. Full disks elsewhere are for others to tell."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from converter.errors import SaltflatError
from converter.store.layout import Store

# The last one is a limit of the process, or of the file system, for one file.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def room_in(store: Store) -> Iterator[None]:
    """Raise SaltflatError for a write that `store` had no room for.

    Around what writes nowhere else: the system's error for a write does not say of which file.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise SaltflatError(
            f"There is no room for more in the store {store.root}: {error.strerror}.",
            hint="Make room, with `saltflat store gc` or elsewhere on that disk, and begin again: "
            "what is done stays done.",
        ) from error

"""What is said when there is no room for what is written: the system's error names no file."""

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
    """Raise SaltflatError for a write that `store` had no room for; see `room_for`."""
    hint = (
        "Make room, with `saltflat store gc` or elsewhere on that disk, and begin again: what is "
        "done stays done."
    )
    with room_for(f"more in the store {store.root}", hint=hint):
        yield


@contextmanager
def room_for(what: str, *, hint: str = "Make room, or name another place.") -> Iterator[None]:
    """Raise SaltflatError for a write that there was no room for.

    Around what writes `what` and nothing else: of a copy, for one, the error names what was read.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise SaltflatError(f"There is no room for {what}: {error.strerror}.", hint=hint) from error

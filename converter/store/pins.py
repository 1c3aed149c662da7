"""What machines stand on, for as long as they exist. Owns the files in pins/.

A file pins/<name>.json says which links and boot images a machine needs and where the machine's
folder is. It outlives any process, and counts as long as that folder is there; a collection of
garbage takes it away afterwards. Whoever pins does it before it lets go of the store: so a deleter,
alone with the store, sees every pin that there is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from converter.atomic import TEMP_PREFIX, write_atomic
from converter.errors import IntegrityError
from converter.store.layout import Store

PIN_SCHEMA = 1


def pin(store: Store, name: str, identities: Iterable[str], *, holder: Path) -> None:
    """Keep links and boot images, named by their ids, for as long as the folder `holder` exists.

    To be called inside `using(store)`, and the folder made before that is left. Raises OSError.
    """
    document = {"schema": PIN_SCHEMA, "holder": str(holder), "keeps": sorted(set(identities))}
    write_atomic(_path(store.root, name), json.dumps(document).encode() + b"\n")


def unpin(store_root: Path, name: str) -> None:
    """Let go of what was pinned under `name`; nothing when there is no pin. Raises OSError."""
    _path(store_root, name).unlink(missing_ok=True)


def pins(store: Store) -> tuple[frozenset[str], tuple[Path, ...]]:
    """Return the ids that are pinned, and the pins whose holders are gone.

    Exact inside `sweeping`. Raises IntegrityError for a pin that cannot be read: what it keeps must
    not be guessed.
    """
    held: set[str] = set()
    void = []
    for path in sorted(store.pins.glob("*.json")):
        if path.name.startswith(TEMP_PREFIX):
            continue
        try:
            document = json.loads(path.read_bytes())
            holder, keeps = Path(document["holder"]), document["keeps"]
            if document["schema"] != PIN_SCHEMA or not isinstance(keeps, list):
                raise ValueError(f"schema {document['schema']!r}")
        except FileNotFoundError:  # its machine has just been removed
            continue
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise IntegrityError(
                f"The pin {path} is not readable: {error!r}.",
                expected="what a machine needs of the store",
                hint="Remove the file, if the machine that it is named after is gone.",
            ) from error
        if holder.is_dir():
            held.update(map(str, keeps))
        else:
            void.append(path)
    return frozenset(held), tuple(void)


def _path(store_root: Path, name: str) -> Path:
    return store_root / "pins" / f"{name}.json"

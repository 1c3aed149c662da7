"""Where things lie in a store, and its schema number. Owns paths, nothing of what is in the files.

store.json                 {"schema": 1}
blobs/<algorithm>/<hex>    verified blobs of images
links/<link id>.vmdk       a link of a chain, read-only
links/<link id>.state      what its children need
links/<link id>.json       its record: written last, it makes the other two valid
images/<image>.json        which images are here, and the links that each stands on
boot/<boot id>/            boot images
locks/                     lock files; may be deleted when nothing runs
pins/<machine>.json        what machines stand on, for as long as they exist
cache/                     what can be fetched or found out again: packages, names/<key>.json
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from converter.atomic import make_directory, write_atomic
from converter.errors import IntegrityError, SaltflatError

SCHEMA = 1


def default_store(environment: dict[str, str] | None = None) -> Path:
    """Return the folder that is the store when none is named: $XDG_DATA_HOME/saltflat."""
    environment = dict(os.environ) if environment is None else environment
    data_home = environment.get("XDG_DATA_HOME", "")
    # The XDG specification: relative paths are invalid and must be ignored.
    base = Path(data_home) if data_home.startswith("/") else Path.home() / ".local" / "share"
    return base / "saltflat"


class Store:
    """A store's folders, made when first opened."""

    def __init__(self, root: Path) -> None:
        """Open or create the store at `root`.

        Raises SaltflatError when it has a newer schema or cannot be written.
        """
        self.root = root.absolute()
        try:
            for folder in (
                self.blobs,
                self.links,
                self.images,
                self.boot,
                self.locks,
                self.pins,
                self.cache,
            ):
                make_directory(folder)
            self._check_schema()
        except OSError as error:
            raise SaltflatError(
                f"The store {root} cannot be used: {error.strerror}.",
                hint="Name a folder that you may write to with --store or SALTFLAT_STORE.",
            ) from error

    def _check_schema(self) -> None:
        path = self.root / "store.json"
        try:
            document = json.loads(path.read_bytes())
        except FileNotFoundError:
            write_atomic(path, json.dumps({"schema": SCHEMA}).encode() + b"\n")
            return
        except ValueError as error:
            raise IntegrityError(f"{path} is not readable JSON: {error}.") from error
        schema = document.get("schema") if isinstance(document, dict) else None
        if type(schema) is not int or schema < 1:
            raise IntegrityError(
                f"{path} has no schema number.", expected=f'{{"schema": {SCHEMA}}}'
            )
        if schema > SCHEMA:
            raise SaltflatError(
                f"The store {self.root} has schema {schema}; this program knows up to {SCHEMA}.",
                hint="Use a newer saltflat, or another --store.",
            )

    @property
    def blobs(self) -> Path:
        """The folder of verified blobs."""
        return self.root / "blobs"

    @property
    def links(self) -> Path:
        """The folder of links, states and records."""
        return self.root / "links"

    @property
    def images(self) -> Path:
        """The folder of image records."""
        return self.root / "images"

    @property
    def boot(self) -> Path:
        """The folder of boot images, one folder each."""
        return self.root / "boot"

    @property
    def locks(self) -> Path:
        """The folder of lock files."""
        return self.root / "locks"

    @property
    def pins(self) -> Path:
        """The folder of pins that last as long as a machine."""
        return self.root / "pins"

    @property
    def cache(self) -> Path:
        """The folder of what can be fetched or found out again: packages, probe results."""
        return self.root / "cache"

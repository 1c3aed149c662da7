"""What a Debian package says of itself. Owns which facts are kept of it; judges none of them.

They are read out of the package alone, so that the same package says the same on any host, whatever
its archive's lists have.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from converter.atomic import write_atomic
from converter.errors import IntegrityError, NotFoundError
from tinykernel import deb

_SCHEMA = 1
_DOCUMENTATION = "usr/share/doc"
_SOURCE = re.compile(r"(?P<name>\S+)(?: \((?P<version>[^)]+)\))?")  # Debian Policy 5.6.1
_BUILT_USING = re.compile(r"(\S+) \(= ([^)]+)\)")  # Debian Policy 7.8


@dataclass(frozen=True, slots=True)
class PackageFacts:
    """A binary package and the source package that it was built from.

    `built_using` are further source packages of which bytes are in it, with their versions: a
    signed kernel's own source holds little more than signatures.
    `copyright` is its copyright file (Debian Policy 12.5); where that is another package's,
    `copyright_of` names the package. `built_seconds` is when it was built, in Unix time.
    """

    name: str
    version: str
    architecture: str
    source: str
    source_version: str
    homepage: str
    sha1: str
    sha256: str
    built_seconds: int
    copyright: str
    copyright_of: str
    built_using: tuple[tuple[str, str], ...] = ()


def read_facts(package: Path, *, scratch_dir: Path) -> PackageFacts:
    """Read the facts out of the package file `package`. Raises IntegrityError, OSError."""
    fields = deb.control_fields(package, _FIELDS)
    source = _SOURCE.match(fields["Source"] or fields["Package"])
    if source is None:
        raise IntegrityError(f"{package.name} does not say which package it is")
    text, owner = _copyright(package, fields["Package"], scratch_dir)
    with package.open("rb") as file:
        sha1 = hashlib.file_digest(file, "sha1").hexdigest()
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return PackageFacts(
        name=fields["Package"],
        version=fields["Version"],
        architecture=fields["Architecture"],
        source=source["name"],
        source_version=source["version"] or fields["Version"],
        homepage=fields["Homepage"],
        sha1=sha1,
        sha256=sha256,
        built_seconds=deb.built_seconds(package),
        copyright=text,
        copyright_of=owner,
        built_using=tuple(_BUILT_USING.findall(fields["Built-Using"])),
    )


def kept_facts(package: Path, sha256: str, *, folder: Path) -> PackageFacts:
    """Return the facts of the package file whose digest is `sha256`, reading it at most once.

    They are kept in `folder`: a kernel package has 100 MB to go through. Raises as `read_facts`.
    """
    kept = folder / f"{sha256}.facts"
    try:
        document = json.loads(kept.read_bytes())
        if document["schema"] == _SCHEMA:
            facts = document["facts"]
            used = tuple((name, version) for name, version in facts.pop("built_using"))
            return PackageFacts(**facts, built_using=used)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or of another version of ours
    facts = read_facts(package, scratch_dir=folder)
    write_atomic(kept, json.dumps({"schema": _SCHEMA, "facts": asdict(facts)}).encode())
    return facts


def _copyright(package: Path, name: str, scratch_dir: Path) -> tuple[str, str]:
    """Return the package's copyright file and the package whose it is; "" where there is none."""
    with deb.open_deb(package, scratch_dir=scratch_dir) as archive:
        # A package may share the folder of another one of the same source (Policy 12.3).
        owner = archive.link_target(f"{_DOCUMENTATION}/{name}")
        if owner is not None:
            return "", PurePosixPath(owner).name
        try:
            text = archive.read(f"{_DOCUMENTATION}/{name}/copyright")
        except NotFoundError:
            return "", name
    return text.decode("utf-8", "replace"), name


_FIELDS = ("Package", "Source", "Version", "Architecture", "Homepage", "Built-Using")

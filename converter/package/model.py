"""What a package says: a machine, its files and disks, and what may be set when it is deployed.

Pure values. How they become XML is `descriptor`'s matter; where their bytes come from is not known
here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# A name is a URI in the descriptor, stands between brackets in the manifest, and has at most 100
# bytes in an OVA: these characters are themselves in all three.
_OTHER = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)
_STEM_LENGTH = 64  # so that there is room for endings


def portable_stem(name: str) -> str:
    """Return what the names of a package's files begin with, after a name that a person gave."""
    return _OTHER.sub("-", name)[:_STEM_LENGTH].lstrip("-.") or "package"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageFile:
    """A file of the package: its name, beside the descriptor, and its size, None if unknown."""

    name: str
    size_bytes: int | None = None

    def __post_init__(self) -> None:
        if not self.name or _OTHER.search(self.name):
            raise ValueError(f"{self.name!r} is no name for a file of a package")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageDisk:
    """A disk in a streamOptimized file.

    `populated_bytes` is how much of `capacity_bytes` the file fills, None if that is not known.
    `parent` is the file name of the disk that has what this one has not.
    """

    file: PackageFile
    capacity_bytes: int
    populated_bytes: int | None = None
    parent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialPort:
    """A serial port that nothing needs to be connected to.

    One on the network, to the URI of a `concentrator` or, without one, to what whoever deploys the
    package says; with `file_name` one that writes a file.
    """

    concentrator: str = ""
    file_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """A text that the guest gets, as `CLASS.KEY` of the section that it is in.

    What is not `configurable` is as it is in the package.
    """

    key: str
    value: str
    label: str = ""
    description: str = ""
    configurable: bool = True
    is_password: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PropertySection:
    """Properties that belong together, under the name `class_name`."""

    class_name: str
    info: str
    properties: Sequence[Property]


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A virtual machine and its files.

    `disks` are in the order of the package, a parent before its children; those that are no parent
    are the machine's, in the order in which they hang on its controller. `boot_iso` is in a CD
    drive. `others` are files that go along and mean nothing to a hypervisor. `networks` has the
    name of one for each adapter. `product` and `version` are what the machine is for people.
    """

    name: str
    product: str
    version: str
    annotation: str
    memory_mib: int
    processors: int
    is_efi: bool = True
    disks: Sequence[PackageDisk]
    boot_iso: PackageFile | None = None
    others: Sequence[PackageFile] = ()
    networks: Sequence[str] = ()
    serial_ports: Sequence[SerialPort] = ()
    sections: Sequence[PropertySection] = ()

    @property
    def files(self) -> tuple[PackageFile, ...]:
        """All files but the descriptor, in the order in which they are read."""
        medium = () if self.boot_iso is None else (self.boot_iso,)
        return (*(disk.file for disk in self.disks), *medium, *self.others)

    @property
    def machine_disks(self) -> tuple[PackageDisk, ...]:
        """The disks that the machine has: those that are nobody's parent."""
        parents = {disk.parent for disk in self.disks}
        return tuple(disk for disk in self.disks if disk.file.name not in parents)

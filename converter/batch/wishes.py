"""What a person asks of a batch: images, how each is converted, what is made of it. Values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from converter.batch.plan import TaskKind
from converter.convert_options import ConvertOptions
from converter.export.options import MachineOptions, PackageOptions
from converter.image.platform import Platform
from converter.image.source import Origin
from converter.vmdk.compression import Codec

if TYPE_CHECKING:
    from converter.vsphere.placement import Provisioning
    from converter.vsphere.settings import Settings as VsphereSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleWish:
    """A bundle in the folder `place`; `boot` names its boot image."""

    place: str
    boot: str | None = None
    force: bool = False
    copy: bool = False

    kind = TaskKind.BUNDLE


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportWish:
    """An export of the type `type` to the file or folder `place`."""

    place: str
    type: str
    codec: Codec
    machine: MachineOptions
    package: PackageOptions
    force: bool = False
    provenance: bool | None = None
    sbom: bool = True

    kind = TaskKind.EXPORT


@dataclass(frozen=True, slots=True, kw_only=True)
class PushWish:
    """The chain as an artifact at `place`, HOST/REPO[:TAG]; `codec` is how disks travel."""

    place: str
    codec: str

    kind = TaskKind.PUSH


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportWish:
    """A template on vSphere called `place`."""

    place: str
    provisioning: Provisioning
    replace: bool
    settings: VsphereSettings = field(repr=False)

    kind = TaskKind.IMPORT


OutputWish = BundleWish | ExportWish | PushWish | ImportWish


@dataclass(frozen=True, slots=True)
class TagWish:
    """Which tags of a repository: those that one of `patterns` fits, of them the `newest`.

    A pattern is a glob as a shell has it, or behind `regex:` a regular expression for a whole tag.
    """

    patterns: tuple[str, ...] = ("*",)
    newest: int | None = None


@dataclass(frozen=True, slots=True)
class Treatment:
    """How an image is got and converted, and what is made of it.

    `origin` has the first of `platforms`. Places of `outputs` are templates (`places.py`).
    """

    conversion: ConvertOptions
    origin: Origin
    platforms: tuple[Platform, ...]
    outputs: tuple[OutputWish, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a batch: an image, or with `tags` those of a repository; `line` of the file."""

    line: int
    source: str
    tags: TagWish | None
    treatment: Treatment


@dataclass(frozen=True, slots=True)
class BatchFile:
    """All that a file asks for; `name` is the file's in messages."""

    name: str
    entries: tuple[Entry, ...]

"""Write the bill of materials of a boot image as SPDX 2.3. Owns the document; fetches nothing.

The same image gives the same bytes: the document's date is when the newest of its packages was
built, for no clock and no setting of the host has a part in a boot image.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from converter import __version__
from tinykernel.contents import OURS
from tinykernel.cpio import ArchiveEntry
from tinykernel.facts import PackageFacts
from tinykernel.sbom import c_spdx as c
from tinykernel.sbom.c_licences import NOASSERTION
from tinykernel.sbom.licences import ExtractedLicence, read_licence

COMPILER = "CPython"  # the package that stands for who compiled the bytecode

_NOT_OF_AN_ID = re.compile(r"[^A-Za-z0-9.-]")


@dataclass(frozen=True, slots=True)
class Materials:
    """All that the bill of a boot image tells of.

    `files` are the image's own by name, such as vmlinuz; `entries` the initramfs's, `origins` the
    packages of those that are from one. `kernel_package` is "" when the kernel is from none.
    `kernel_config` and `kernel_tools` are of a kernel that was built here.
    """

    identity: str
    files: Mapping[str, bytes]
    kernel_file: str
    initramfs_file: str
    entries: Sequence[ArchiveEntry]
    origins: Mapping[str, str]
    packages: Sequence[PackageFacts]
    kernel_package: str
    kernel_flavour: str
    debug: bool = False
    compiled_by: str | None = None
    kernel_config: bytes = b""
    kernel_tools: Sequence[str] = ()


def encode_sbom(materials: Materials) -> bytes:
    """Return the exact bytes of boot.spdx.json."""
    bill = _Bill()
    image = bill.own_package("image", f"saltflat-boot-{materials.identity[:12]}", materials)
    bill.packages[image]["comment"] = variant(materials.kernel_flavour, debug=materials.debug)
    bill.relate(c.DOCUMENT_ID, c.DESCRIBES, image)
    tether = bill.plain_package(OURS, OURS, __version__, licence="Apache-2.0")
    known = _debian_packages(bill, materials.packages)
    files = {name: bill.file(name, data) for name, data in materials.files.items()}
    bill.holds(image, materials.files.values(), files.values())
    kernel = files[materials.kernel_file]
    if materials.kernel_package in known:
        relation = c.GENERATED_FROM if materials.kernel_config else c.EXPANDED_FROM_ARCHIVE
        bill.relate(kernel, relation, known[materials.kernel_package])
    if materials.kernel_config:
        bill.relate(kernel, c.GENERATED_FROM, bill.file("kernel.config", materials.kernel_config))
    for number, tool in enumerate(materials.kernel_tools):
        bill.relate(
            bill.plain_package(f"kernel-tool-{number}", tool.split()[0], tool),
            c.BUILD_TOOL_OF,
            kernel,
        )
    initramfs = bill.own_package("initramfs", "initramfs", materials)
    bill.relate(files[materials.initramfs_file], c.GENERATED_FROM, initramfs)
    _initramfs_files(bill, initramfs, materials, {**known, OURS: tether})
    if materials.compiled_by is not None:
        python = bill.plain_package("compiler", COMPILER, materials.compiled_by)
        bill.relate(python, c.BUILD_TOOL_OF, initramfs)
    newest = max((facts.built_seconds for facts in materials.packages), default=0)
    return bill.encode(materials.identity, newest)


def variant(kernel_flavour: str, *, debug: bool) -> str:
    """Return how the bill says which boot image of several it is about."""
    shell = " and a debug shell" if debug else ""
    return f"A boot image with the kernel {kernel_flavour!r}{shell}."


def _debian_packages(bill: _Bill, packages: Sequence[PackageFacts]) -> dict[str, str]:
    """Add the binary packages and those that they were built from; return name -> element."""
    texts = {facts.name: facts.copyright for facts in packages}
    known = {}
    for facts in packages:
        text = texts.get(facts.copyright_of, "")
        licence = read_licence(text, facts.source)
        plain_version = facts.version.partition(":")[2] or facts.version  # names have no epoch
        known[facts.name] = bill.package(
            f"deb-{facts.name}",
            {
                "name": facts.name,
                "versionInfo": facts.version,
                "packageFileName": f"{facts.name}_{plain_version}_{facts.architecture}.deb",
                "supplier": "Organization: Debian",
                "downloadLocation": c.SNAPSHOT_FILE.format(sha1=facts.sha1),
                "homepage": facts.homepage or NOASSERTION,
                "checksums": _checksums(facts.sha1, facts.sha256),
                "licenseDeclared": licence.expression,
                "builtDate": _date(facts.built_seconds),
                "externalRefs": _purl(c.PURL_BINARY, facts.name, facts.version, facts.architecture),
            },
        )
        bill.extracted.update((item.ref, item) for item in licence.extracted)
        for name, version in ((facts.source, facts.source_version), *facts.built_using):
            place = c.SNAPSHOT_SOURCE.format(name=quote(name), version=quote(version))
            source = bill.package(
                f"source-{name}-{version}",
                {
                    "name": name,
                    "versionInfo": version,
                    "downloadLocation": place,
                    "licenseDeclared": NOASSERTION,
                    "externalRefs": _purl(c.PURL_SOURCE, name, version),
                    "primaryPackagePurpose": "SOURCE",
                },
            )
            bill.relate(known[facts.name], c.GENERATED_FROM, source)
    return known


def _initramfs_files(
    bill: _Bill, initramfs: str, materials: Materials, known: Mapping[str, str]
) -> None:
    regular = [entry for entry in materials.entries if entry.is_regular]
    elements = []
    for entry in regular:
        element = bill.file(f"{materials.initramfs_file}/{entry.path}", entry.data)
        elements.append(element)
        origin = materials.origins.get(entry.path, "")
        if origin in known:
            # Most are compiled or stripped on their way: none is called a copy.
            bill.relate(element, c.GENERATED_FROM, known[origin])
    bill.holds(initramfs, (entry.data for entry in regular), elements)


@dataclass(slots=True)
class _Bill:
    """The document as it grows: elements by their ids, in the order in which they came."""

    packages: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    relations: list[tuple[str, str, str]] = field(default_factory=list)
    extracted: dict[str, ExtractedLicence] = field(default_factory=dict)

    def package(self, name: str, fields: Mapping[str, Any]) -> str:
        """Add a package of whose files nothing is said, unless it is there; return its id."""
        identity = _id(name)
        usual = {
            "SPDXID": identity,
            "filesAnalyzed": False,
            "licenseConcluded": NOASSERTION,
            "copyrightText": NOASSERTION,
        }
        self.packages.setdefault(identity, {**usual, **fields})
        return identity

    def plain_package(self, key: str, name: str, version: str, licence: str = NOASSERTION) -> str:
        """Add a package that is in no archive."""
        fields = {"name": name, "versionInfo": version, "downloadLocation": NOASSERTION}
        return self.package(key, {**fields, "licenseDeclared": licence})

    def own_package(self, key: str, name: str, materials: Materials) -> str:
        """Add a package that is a part of the boot image; `holds` says what is in it."""
        return self.plain_package(key, name, materials.identity)

    def holds(self, package: str, contents: Iterable[bytes], files: Iterable[str]) -> None:
        """Say that all that a package holds are these `files`, which have these `contents`."""
        # SPDX 2.3, 7.9: the hash of the sorted hashes.
        sums = sorted(_sha1(data) for data in contents)
        fields = self.packages[package]
        fields["filesAnalyzed"] = True
        fields["packageVerificationCode"] = {
            "packageVerificationCodeValue": _sha1("".join(sums).encode())
        }
        for file in files:
            self.relate(package, c.CONTAINS, file)

    def file(self, path: str, data: bytes) -> str:
        """Add a file; return its id."""
        # Paths may differ in what an id cannot have: a hash keeps them apart.
        identity = _id(f"file-{hashlib.sha256(path.encode()).hexdigest()[:16]}")
        self.files[identity] = {
            "SPDXID": identity,
            "fileName": f"./{path}",
            "checksums": _checksums(_sha1(data), hashlib.sha256(data).hexdigest()),
            "licenseConcluded": NOASSERTION,
            "copyrightText": NOASSERTION,
        }
        return identity

    def relate(self, element: str, relation: str, other: str) -> None:
        """Say how two elements stand to each other."""
        self.relations.append((element, relation, other))

    def encode(self, identity: str, created_seconds: int) -> bytes:
        """Return the document's bytes."""
        document = {
            "spdxVersion": c.VERSION,
            "dataLicense": c.DATA_LICENCE,
            "SPDXID": c.DOCUMENT_ID,
            "name": f"saltflat-boot-{identity}",
            "documentNamespace": f"{c.NAMESPACE}{identity}",
            "creationInfo": {
                "created": _date(created_seconds),
                "creators": [f"Tool: saltflat-{__version__}"],
                "comment": "created is when the newest of the packages was built.",
            },
            "packages": list(self.packages.values()),
            "files": list(self.files.values()),
            "hasExtractedLicensingInfos": [
                {"licenseId": ref, "name": licence.name, "extractedText": licence.text}
                for ref, licence in sorted(self.extracted.items())
            ],
            "relationships": [
                {"spdxElementId": a, "relationshipType": relation, "relatedSpdxElement": b}
                for a, relation, b in dict.fromkeys(self.relations)
            ],
        }
        return json.dumps(document, indent=1).encode() + b"\n"


def _id(name: str) -> str:
    return c.ID_PREFIX + _NOT_OF_AN_ID.sub("-", name.replace("+", "-plus-"))


def _checksums(sha1: str, sha256: str) -> list[dict[str, str]]:
    return [
        {"algorithm": "SHA1", "checksumValue": sha1},
        {"algorithm": "SHA256", "checksumValue": sha256},
    ]


def _purl(form: str, name: str, version: str, architecture: str = "") -> list[dict[str, str]]:
    locator = form.format(name=quote(name), version=quote(version), architecture=architecture)
    return [
        {
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": locator,
        }
    ]


def _date(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _sha1(data: bytes) -> str:
    # SPDX wants this one of every file; SHA-256 stands beside it.
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()

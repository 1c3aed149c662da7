"""The bill of materials of a boot image: valid by SPDX's own tools, and true."""

from __future__ import annotations

import hashlib
import json
import subprocess
from datetime import UTC
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from spdx_tools.spdx.model import (
    Document,
    ExternalPackageRefCategory,
    Package,
    RelationshipType,
)
from spdx_tools.spdx.model.checksum import ChecksumAlgorithm
from spdx_tools.spdx.model.spdx_no_assertion import SpdxNoAssertion
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from converter import __version__
from tinykernel.cpio import regular
from tinykernel.facts import PackageFacts
from tinykernel.record import BootImage, load_boot_image
from tinykernel.sbom.spdx import Materials, encode_sbom

pytestmark = pytest.mark.integration

# Debian's own public service, SPDX's own, and the packages' home pages.
HOSTS = {"snapshot.debian.org", "spdx.org"}


@pytest.fixture(scope="module")
def image(boot_store: Path) -> BootImage:
    (record,) = (boot_store / "boot").glob("*/boot.json")
    return load_boot_image(record.parent)


@pytest.fixture(scope="module")
def bill(image: BootImage) -> Document:
    return read(image.folder / "boot.spdx.json")


def read(path: Path) -> Document:
    """Return the document, which SPDX's tools have nothing to say against."""
    document = parse_file(str(path))
    assert [x.validation_message for x in validate_full_spdx_document(document)] == []
    return document


def related(document: Document, kind: RelationshipType) -> set[tuple[str, str]]:
    found = [each for each in document.relationships if each.relationship_type is kind]
    return {(each.spdx_element_id, each.related_spdx_element_id) for each in found}


def by_id(document: Document) -> dict[str, Package]:
    return {package.spdx_id: package for package in document.packages}


def test_it_is_about_this_image(bill: Document, image: BootImage) -> None:
    assert bill.creation_info.document_namespace.endswith(image.id)
    assert [str(actor) for actor in bill.creation_info.creators] == [
        f"Tool: saltflat-{__version__}"
    ]
    packages = {(package.name, package.version) for package in bill.packages}
    assert {(each.name, each.version) for each in image.packages} <= packages
    assert ("saltflat", __version__) in packages


def test_packages_are_what_dpkg_says_of_them(
    bill: Document, image: BootImage, boot_store: Path
) -> None:
    packages = by_id(bill)
    from_source = related(bill, RelationshipType.GENERATED_FROM)
    newest = 0
    for each in image.packages:
        (deb,) = [
            path
            for path in (boot_store / "cache").rglob("*.deb")
            if hashlib.sha256(path.read_bytes()).hexdigest() == each.sha256
        ]
        form = "${Version}\n${source:Package}\n${source:Version}\n${Architecture}\n"
        told = subprocess.run(
            ["dpkg-deb", "-W", f"--showformat={form}", deb],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        version, source, source_version, architecture = told.splitlines()
        package = packages[f"SPDXRef-deb-{each.name}"]
        assert package.version == version
        sums = {item.algorithm: item.value for item in package.checksums}
        assert sums[ChecksumAlgorithm.SHA256] == each.sha256
        sha1 = hashlib.sha1(deb.read_bytes()).hexdigest()
        assert package.download_location == f"https://snapshot.debian.org/file/{sha1}"
        assert package.file_name is not None
        assert package.file_name.endswith(f"_{architecture}.deb")
        assert ":" not in package.file_name
        sources = [packages[b] for a, b in from_source if a == package.spdx_id]
        assert (source, source_version) in {(item.name, item.version) for item in sources}
        assert all("snapshot.debian.org/package/" in str(x.download_location) for x in sources)
        date = subprocess.run(
            ["ar", "tv", deb],
            check=True,
            capture_output=True,
            text=True,
            env={"TZ": "UTC", "LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        ).stdout
        assert package.built_date is not None
        assert f"{package.built_date:%b %e %H:%M %Y}" in date
        newest = max(newest, int(package.built_date.replace(tzinfo=UTC).timestamp()))
    assert bill.creation_info.created.replace(tzinfo=UTC).timestamp() == newest


def test_licences_are_told_where_the_copyright_file_tells_them(bill: Document) -> None:
    declared = {package.name: package.license_declared for package in bill.packages}
    assert str(declared["libexpat1"]) == "MIT"
    assert str(declared["zlib1g"]) == "Zlib"
    assert isinstance(declared["libc6"], SpdxNoAssertion)
    assert all(item.extracted_text for item in bill.extracted_licensing_info)


def test_every_file_is_told_of_and_is_from_somewhere(bill: Document, image: BootImage) -> None:
    contents = json.loads((image.folder / "contents.json").read_bytes())["contents"]
    wanted = {f"./initrd/{row['path']}": row["sha256"] for row in contents if "sha256" in row}
    wanted["./vmlinuz"] = image.kernel_sha256
    wanted["./initrd"] = image.initrd_sha256
    told = {
        file.name: next(x.value for x in file.checksums if x.algorithm is ChecksumAlgorithm.SHA256)
        for file in bill.files
    }
    assert told == wanted
    packages = by_id(bill)
    origins = related(bill, RelationshipType.GENERATED_FROM)
    origins |= related(bill, RelationshipType.EXPANDED_FROM_ARCHIVE)
    names = {file.spdx_id: file.name for file in bill.files}
    found = {names[a]: packages[b].name for a, b in origins if a in names}
    assert found.keys() == wanted.keys()
    assert found["./initrd/usr/bin/python3.11"] == "python3.11-minimal"
    assert found["./initrd/usr/lib/python3.11/os.pyc"] == "libpython3.11-minimal"
    assert found["./initrd/usr/lib/x86_64-linux-gnu/libc.so.6"] == "libc6"
    assert found["./initrd/usr/lib/saltflat/dhcp/busybox.z"] == "busybox"
    assert found["./initrd/init"] == "saltflat"
    assert found["./initrd/usr/lib/modules/sd_mod.ko"] == image.kernel_package
    assert found["./vmlinuz"] == image.kernel_package
    rows = {row["path"]: row.get("origin") for row in contents if "sha256" in row}
    assert {f"./initrd/{path}": origin for path, origin in rows.items()} == {
        name: origin for name, origin in found.items() if name.startswith("./initrd/")
    }


def test_no_address_but_public_ones_is_in_it(image: BootImage, bill: Document) -> None:
    homes = {str(package.homepage) for package in bill.packages}
    text = (image.folder / "boot.spdx.json").read_text()
    document = json.loads(text)
    del document["hasExtractedLicensingInfos"]  # texts of others
    addresses = [word for word in json.dumps(document).split('"') if "://" in word]
    assert {urlsplit(word).hostname for word in addresses if word not in homes} == HOSTS


def test_a_kernel_that_was_built_here_is_told_with_what_built_it(tmp_path: Path) -> None:
    source = PackageFacts(
        "linux-source-6.1",
        "6.1-1",
        "all",
        "linux",
        "6.1-1",
        "",
        "ab" * 20,
        "cd" * 32,
        86400,
        "",
        "",
    )
    tools = ("gcc (Debian 12.2.0-14) 12.2.0", "GNU ld (GNU Binutils for Debian) 2.40")
    path = tmp_path / "boot.spdx.json"
    path.write_bytes(
        encode_sbom(
            Materials(
                identity="ab" * 32,
                files={"vmlinuz": b"kernel", "initrd": b"initramfs"},
                kernel_file="vmlinuz",
                initramfs_file="initrd",
                entries=[regular("init", b"#!")],
                origins={"init": "saltflat"},
                packages=[source],
                kernel_package="linux-source-6.1",
                kernel_flavour="tiny",
                kernel_config=b"CONFIG_A=y\n",
                kernel_tools=tools,
            )
        )
    )
    document = read(path)
    assert f"{document.creation_info.created}" == "1970-01-02 00:00:00"
    names = {file.spdx_id: file.name for file in document.files}
    names |= {package.spdx_id: package.name for package in document.packages}
    from_ = {(names[a], names[b]) for a, b in related(document, RelationshipType.GENERATED_FROM)}
    assert {("./vmlinuz", "linux-source-6.1"), ("./vmlinuz", "./kernel.config")} <= from_
    built_by = {(by_id(document)[a].version, names[b])
                for a, b in related(document, RelationshipType.BUILD_TOOL_OF)}  # fmt: skip
    assert built_by == {(tool, "./vmlinuz") for tool in tools}


def test_packages_have_their_usual_names(bill: Document) -> None:
    for package in bill.packages:
        for reference in package.external_references:
            assert reference.category is ExternalPackageRefCategory.PACKAGE_MANAGER
            assert reference.locator.startswith(f"pkg:deb/debian/{package.name}@")

"""boot.json: what is written is read back, what is damaged or newer is refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from converter.errors import IntegrityError, NotFoundError
from tinykernel.record import BootImage, PackageRecord, encode_record, load_boot_image


@pytest.fixture
def image(tmp_path: Path) -> BootImage:
    (tmp_path / "vmlinuz").write_bytes(b"kernel")
    (tmp_path / "initrd").write_bytes(b"initramfs")
    made = BootImage(
        folder=tmp_path,
        id="ab" * 32,
        arch="amd64",
        kernel_package="linux-image-6.1.0-1-cloud-amd64",
        kernel_version="6.1.0-1-cloud-amd64",
        kernel_sha256=hashlib.sha256(b"kernel").hexdigest(),
        initrd_sha256=hashlib.sha256(b"initramfs").hexdigest(),
        packages=(PackageRecord("libc6", "2.36", "cd" * 32),),
        python="3.11",
        compiled_by="3.11.2",
        protocol=1,
        modules=("sd_mod",),
    )
    (tmp_path / "boot.json").write_bytes(encode_record(made))
    return made


def test_a_written_record_is_read_back(image: BootImage) -> None:
    assert load_boot_image(image.folder) == image


def test_an_image_of_sources_has_no_compiler(image: BootImage) -> None:
    sources = replace(image, compiled_by=None)
    (image.folder / "boot.json").write_bytes(encode_record(sources))
    assert load_boot_image(image.folder) == sources


def test_a_record_from_before_there_were_flavours_is_of_the_stock_kernel(image: BootImage) -> None:
    document = image.to_json()
    del document["kernel"]["flavour"]
    (image.folder / "boot.json").write_text(json.dumps(document))
    assert load_boot_image(image.folder).kernel_flavour == "stock"


def test_a_kernel_of_no_package_is_read_back(image: BootImage) -> None:
    given = replace(image, kernel_flavour="given", kernel_package="")
    (image.folder / "boot.json").write_bytes(encode_record(given))
    assert load_boot_image(image.folder) == given


def test_what_came_later_is_read_back_and_may_be_missing(image: BootImage) -> None:
    folder = image.folder
    for name in ("contents.json", "boot.spdx.json"):
        (folder / name).write_bytes(name.encode())
    more = replace(
        image,
        contents_sha256=hashlib.sha256(b"contents.json").hexdigest(),
        sbom_sha256=hashlib.sha256(b"boot.spdx.json").hexdigest(),
        debug=True,
    )
    (folder / "boot.json").write_bytes(encode_record(more))
    assert load_boot_image(folder) == more
    assert list(more.digests()) == ["vmlinuz", "initrd", "contents.json", "boot.spdx.json"]
    assert (image.name, more.name) == ("stock", "stock-debug")
    (folder / "boot.spdx.json").write_bytes(b"other")
    with pytest.raises(IntegrityError, match=r"boot\.spdx\.json"):
        load_boot_image(folder)
    document = image.to_json()
    for key in ("contents", "sbom", "debug"):
        del document[key]
    (folder / "boot.json").write_text(json.dumps(document))
    assert load_boot_image(folder) == image


def test_no_folder_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no boot image"):
        load_boot_image(tmp_path / "gone")


@pytest.mark.parametrize("name", ["vmlinuz", "initrd"])
@pytest.mark.parametrize("content", [b"other", None])
def test_changed_and_missing_files_are_refused(
    image: BootImage, name: str, content: bytes | None
) -> None:
    if content is None:
        (image.folder / name).unlink()
    else:
        (image.folder / name).write_bytes(content)
    with pytest.raises(IntegrityError, match=name):
        load_boot_image(image.folder)


def test_a_newer_schema_is_refused_not_misread(image: BootImage) -> None:
    document = {**image.to_json(), "schema": 2}
    (image.folder / "boot.json").write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match="schema 2") as caught:
        load_boot_image(image.folder)
    assert caught.value.expected == "schema 1 or older"


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 0},
        {"schema": "1"},
        {"id": "../../etc"},
        {"kernel": None},
        {"kernel": {"flavour": 1, "package": "p", "version": "v", "sha256": "ab" * 32}},
        {"initrd": {}},
        {"packages": [{}]},
        {"packages": 3},
        {"protocol": "1"},
        {"protocol": True},
        {"modules": [1]},
        {"python": None},
        {"debug": 1},
        {"contents": {}},
        {"contents": "ab"},
        {"sbom": {"sha256": "x"}},
    ],
)
def test_damaged_records_raise_integrity_error(image: BootImage, change: dict[str, object]) -> None:
    document = {**image.to_json(), **change}
    (image.folder / "boot.json").write_text(json.dumps(document))
    with pytest.raises(IntegrityError):
        load_boot_image(image.folder)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "[" * 100_000, "{", '{"schema": 1}', " " * (1 << 21)]
)
def test_hostile_text_raises_integrity_error(image: BootImage, text: str) -> None:
    (image.folder / "boot.json").write_text(text)
    with pytest.raises(IntegrityError):
        load_boot_image(image.folder)

"""Which boot image a name means, and which one machines do not start with."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from agent.wire.c_frame import OLDEST_VERSION, PROTOCOL_VERSION
from converter.errors import IntegrityError, NotFoundError, UsageError
from converter.image.platform import Platform
from converter.store.bootimages import boot_image_for, find_boot_folder, set_default
from converter.store.layout import Store
from tinykernel.record import BootImage, encode_record

AMD64 = Platform.parse("linux/amd64")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def put(
    store: Store,
    identity: str,
    *,
    flavour: str = "stock",
    debug: bool = False,
    protocol: int = PROTOCOL_VERSION,
) -> BootImage:
    folder = store.boot / identity
    folder.mkdir()
    for name in ("vmlinuz", "initrd"):
        (folder / name).write_bytes(name.encode())
    image = BootImage(
        folder=folder,
        id=identity,
        arch="amd64",
        kernel_package="",
        kernel_version="6.1",
        kernel_sha256=hashlib.sha256(b"vmlinuz").hexdigest(),
        initrd_sha256=hashlib.sha256(b"initrd").hexdigest(),
        packages=(),
        python="3.11",
        compiled_by=None,
        protocol=protocol,
        modules=(),
        kernel_flavour=flavour,
        debug=debug,
    )
    (folder / "boot.json").write_bytes(encode_record(image))
    return image


def test_ids_their_beginnings_and_kinds_are_names(store: Store) -> None:
    usual = put(store, "ab" * 32)
    tiny = put(store, "ac" * 32, flavour="tiny")
    debug = put(store, "ad" * 32, debug=True)
    (store.boot / ".tmp-1-0-x").mkdir()
    for name, image in (
        (usual.id, usual),
        ("ab", usual),
        ("stock", usual),
        ("tiny", tiny),
        ("stock-debug", debug),
    ):
        assert find_boot_folder(store, name) == image.folder
        assert boot_image_for(store, AMD64, name) == image
    set_default(store, tiny)
    assert find_boot_folder(store, None) == tiny.folder
    assert boot_image_for(store, AMD64) == tiny


def test_what_none_or_several_are_called_is_an_error(store: Store) -> None:
    with pytest.raises(NotFoundError, match="no boot image in the store") as caught:
        find_boot_folder(store, None)
    assert caught.value.hint
    first, second = put(store, "ab" * 32), put(store, "ac" * 32)
    for name in ("a", "stock"):
        with pytest.raises(UsageError, match="2 boot images") as ambiguous:
            find_boot_folder(store, name)
        assert str(ambiguous.value.expected).count("abababababab") == 1
        assert second.id[:12] in str(ambiguous.value.expected)
    for name in ("tiny", "../ab", ".", first.id + "0"):
        with pytest.raises(NotFoundError):
            find_boot_folder(store, name)


def test_a_damaged_image_is_found_by_its_id_alone(store: Store) -> None:
    image = put(store, "ab" * 32)
    (image.folder / "boot.json").write_bytes(b"{")
    assert find_boot_folder(store, "ab") == image.folder
    with pytest.raises(NotFoundError):
        find_boot_folder(store, "stock")


@pytest.mark.parametrize(
    ("protocol", "hint"),
    [(OLDEST_VERSION - 1, "saltflat boot build"), (PROTOCOL_VERSION + 1, "use a newer saltflat")],
)
def test_one_that_speaks_otherwise_is_refused_with_the_way_out(
    store: Store, protocol: int, hint: str
) -> None:
    set_default(store, put(store, "ab" * 32, protocol=protocol))
    with pytest.raises(IntegrityError, match=f"speaks protocol {protocol}") as caught:
        boot_image_for(store, AMD64)
    assert hint in str(caught.value.hint)

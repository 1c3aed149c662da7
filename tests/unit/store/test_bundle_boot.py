"""What a bundle says of its boot image, and which of the store's images is that one."""

from __future__ import annotations

import dataclasses
import json

import pytest

from agent.wire import PROTOCOL_VERSION
from converter.errors import IntegrityError, NotFoundError
from converter.image.platform import Platform
from converter.store.bundle import read_bundle
from converter.store.bundle_boot import BundleBoot, bundle_boot_image
from converter.store.layout import Store

BOOT = BundleBoot("a" * 64, "tiny", "6.1.0", "b" * 64, "c" * 64, PROTOCOL_VERSION)
AMD64 = Platform("linux", "amd64")


def test_it_is_read_as_it_was_written():
    assert BundleBoot.parse(json.loads(json.dumps(BOOT.to_json()))) == BOOT
    assert BundleBoot.parse(None) is None


@pytest.mark.parametrize(
    "change",
    [
        {"id": "../" + "a" * 61},
        {"id": "A" * 64},
        {"id": 7},
        {"kernel": None},
        {"kernel": {"flavour": "tiny\n", "version": "1", "sha256": "b" * 64}},
        {"kernel": {"flavour": "tiny", "version": "1"}},
        {"initrd": {"sha256": "c" * 63}},
        {"protocol": "2"},
        {"protocol": True},
    ],
)
def test_what_is_no_record_is_refused_with_the_bundle(change, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    parameters = {"capacity_bytes": 1 << 34}
    document = {
        "schema": 1,
        "reference": "app:1",
        "digest": "sha256:" + "d" * 64,
        "platform": "linux/amd64",
        "parameters": parameters,
        "links": [],
        "boot": BOOT.to_json() | change,
    }
    (tmp_path / "bundle.json").write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match=r"bundle\.json is not a bundle's description"):
        read_bundle(tmp_path)


def test_a_store_without_it_says_what_to_do(tmp_path):
    with pytest.raises(NotFoundError, match="is meant for the boot image aaaaaaaaaaaa") as caught:
        bundle_boot_image(Store(tmp_path), AMD64, BOOT)
    assert "run --boot KERNEL" in (caught.value.hint or "")


@pytest.mark.parametrize(("protocol", "hint"), [(1, "build it anew"), (99, "newer saltflat")])
def test_another_protocol_is_refused_before_the_image_is_looked_for(protocol, hint, tmp_path):
    boot = dataclasses.replace(BOOT, protocol=protocol)
    with pytest.raises(IntegrityError, match=f"speaks protocol {protocol}") as caught:
        bundle_boot_image(Store(tmp_path), AMD64, boot)
    assert hint in (caught.value.hint or "")

"""Each kind of damage is found, named, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from converter.events import Event, StepAdvanced, StepStarted, ignore
from converter.image.digest import Digest
from converter.store.images import ImageRecord, image_path
from converter.store.inventory import take_inventory
from converter.store.layout import Store
from converter.store.verify import Fault, verify_store
from tests.unit.store.small_store import make_image, put_blob

Damage = Callable[[Store, ImageRecord], Path]


def _faults(store: Store) -> list[Fault]:
    return list(verify_store(store, take_inventory(store), monitor=ignore))


def _rewrite(path: Path, change: Callable[[bytes], bytes]) -> Path:
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(change(path.read_bytes()))
    path.chmod(mode)
    return path


def _flip(data: bytes) -> bytes:
    return bytes([*data[:5], data[5] ^ 1, *data[6:]])


def _newer(data: bytes) -> bytes:
    return data.replace(b'"schema": 1', b'"schema": 2')


def _flip_disk(store: Store, image: ImageRecord) -> Path:
    return _rewrite(store.links / f"{image.links[0]}.vmdk", _flip)


def _flip_state(store: Store, image: ImageRecord) -> Path:
    return _rewrite(store.links / f"{image.links[1]}.state", _flip)


def _flip_blob(store: Store, _image: ImageRecord) -> Path:
    return _rewrite(put_blob(store, b"a layer's blob"), _flip)


def _longer_disk(store: Store, image: ImageRecord) -> Path:
    return _rewrite(store.links / f"{image.links[0]}.vmdk", lambda data: data + b"\0")


def _writable_disk(store: Store, image: ImageRecord) -> Path:
    path = store.links / f"{image.links[0]}.vmdk"
    path.chmod(0o664)
    return path


def _writable_record(store: Store, image: ImageRecord) -> Path:
    path = image_path(store, image.name)
    path.chmod(0o600)
    return path


def _no_disk(store: Store, image: ImageRecord) -> Path:
    path = store.links / f"{image.links[1]}.vmdk"
    path.unlink()
    return path


def _no_state(store: Store, image: ImageRecord) -> Path:
    path = store.links / f"{image.links[1]}.state"
    path.unlink()
    return path


def _truncated_link_record(store: Store, image: ImageRecord) -> Path:
    return _rewrite(store.links / f"{image.links[1]}.json", lambda data: data[:-20])


def _truncated_image_record(store: Store, image: ImageRecord) -> Path:
    return _rewrite(image_path(store, image.name), lambda data: data[:40])


def _newer_link_record(store: Store, image: ImageRecord) -> Path:
    return _rewrite(store.links / f"{image.links[0]}.json", _newer)


def _newer_image_record(store: Store, image: ImageRecord) -> Path:
    return _rewrite(image_path(store, image.name), _newer)


def _another_image_record(store: Store, image: ImageRecord) -> Path:
    path = image_path(store, image.name)
    return path.rename(path.with_name("0" + path.name[1:]))


def _no_default_boot_image(store: Store, _image: ImageRecord) -> Path:
    path = store.boot / "default"
    path.write_text("1" * 64)
    return path


def _damaged_boot_image(store: Store, _image: ImageRecord) -> Path:
    path = store.boot / ("2" * 64)
    path.mkdir()
    (path / "boot.json").write_text("{}")
    return path


def _no_document(store: Store, image: ImageRecord) -> Path:
    digest = Digest.parse(image.config)
    (store.blobs / digest.algorithm / digest.encoded).unlink()
    return image_path(store, image.name)


@pytest.mark.parametrize(
    ("damage", "what", "hint"),
    [
        (_flip_disk, "not what was written", "converting again"),
        (_flip_state, "not what was written", "converting again"),
        (_flip_blob, "not what its name says", "fetched again"),
        (_longer_disk, "1001 bytes", "converting again"),
        (_writable_disk, "mode 0664", "chmod a-w"),
        (_writable_record, "mode 0600", "chmod a-w"),
        (_no_disk, "missing", "converting again"),
        (_no_state, "missing", "converting again"),
        (_truncated_link_record, "not a link's record", "Delete it"),
        (_truncated_image_record, "not an image's record", "Delete it"),
        (_newer_link_record, "schema 2", "newer saltflat"),
        (_newer_image_record, "schema 2", "newer saltflat"),
        (_another_image_record, "is the record of", "Delete it"),
        (_no_default_boot_image, "is missing", "boot build"),
        (_damaged_boot_image, "damaged", "boot build"),
        (_no_document, "blob sha256:", "Convert base/app/empty again"),
    ],
)
def test_every_damage_is_one_fault_at_its_file(
    tmp_path: Path, damage: Damage, what: str, hint: str
) -> None:
    store = Store(tmp_path)
    image = make_image(store, ["base", "app", "empty"])
    assert _faults(store) == []
    path = damage(store, image)
    (fault,) = _faults(store)
    assert fault.path == path
    assert what in fault.what
    assert hint in fault.hint


def test_a_missing_parent_is_found_from_above_and_from_the_image(tmp_path: Path) -> None:
    store = Store(tmp_path)
    image = make_image(store, ["base", "app"])
    for suffix in ("json", "vmdk", "state"):
        (store.links / f"{image.links[0]}.{suffix}").unlink()
    of_image, of_link = _faults(store)
    assert of_image.path == image_path(store, image.name)
    assert of_image.what == f"its link {image.links[0]} is missing"
    assert of_link.path.stem == image.links[1]
    assert of_link.what == f"its parent {image.links[0]} is missing"
    assert of_link.hint == "Convert base/app again."
    image_path(store, image.name).unlink()
    (fault,) = _faults(store)
    assert "saltflat store gc" in fault.hint


def test_leftovers_are_no_faults(tmp_path: Path) -> None:
    store = Store(tmp_path)
    image = make_image(store, ["base", "app"])
    image_path(store, image.name).unlink()
    (store.links / f"{image.links[1]}.json").unlink()
    (store.links / ".tmp-1-0-x").write_bytes(b"half")
    assert _faults(store) == []
    assert len(take_inventory(store).leftovers) == 3


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    store = Store(tmp_path)
    make_image(store, ["base", "app"])
    events: list[Event] = []
    list(verify_store(store, take_inventory(store), monitor=events.append))
    (total,) = (event.total_bytes for event in events if isinstance(event, StepStarted))
    done = [event.done_bytes for event in events if isinstance(event, StepAdvanced)]
    assert done == sorted(done)
    assert done[-1] == total

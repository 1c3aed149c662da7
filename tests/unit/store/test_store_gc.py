"""What gc needs and what it deletes, in which order, on stores of a few bytes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from converter.errors import IntegrityError, SaltflatError
from converter.events import ignore
from converter.image.digest import Digest
from converter.image.fetch import blob_path
from converter.image.partial import partial_path
from converter.store.gc import Plan, collect_garbage
from converter.store.images import image_path
from converter.store.inventory import LeftoverKind, take_inventory
from converter.store.layout import Store
from converter.store.links import ChainParameters
from converter.store.pins import pin, pins, unpin
from tests.unit.store.small_store import PARAMETERS, make_image, make_link, put_blob


def _collect(store: Store, max_bytes: int | None = None, **options: bool) -> Plan:
    return collect_garbage(
        store, max_store_bytes=max_bytes, timeout_seconds=5, monitor=ignore, **options
    )


def _files(store: Store) -> set[str]:
    return {
        os.fspath(path.relative_to(store.root))
        for path in store.root.rglob("*")
        if path.is_file() and path.parent not in {store.locks, store.pins}
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_an_empty_store_has_nothing_to_delete(store: Store) -> None:
    plan = _collect(store)
    assert (plan.links, plan.before_bytes, plan.after_bytes) == ((), 0, 0)


def test_exactly_what_no_image_needs_goes(store: Store) -> None:
    image = make_image(store, ["base", "empty-1", "app"])
    needed = _files(store)
    other = make_link(store, image.links[0], "other")
    lonely = make_link(store, other.link_id, "lonely")
    unused = [
        other.link_id,
        lonely.link_id,
        make_link(store, lonely.link_id, "empty-2", empty=True).link_id,
        # Empty, but not for this image: another layer, another capacity.
        make_link(store, image.links[0], "empty-3", empty=True).link_id,
        make_link(
            store, image.links[0], "empty-1", empty=True, parameters=ChainParameters(1 << 30)
        ).link_id,
    ]
    for content in (b"base", b"app", b"of no image"):  # layers' blobs are only a cache
        put_blob(store, content)
    (store.locks / "batch-0").touch()  # a batch on a cluster was killed
    dry = _collect(store, dry_run=True)
    plan = _collect(store)
    assert dry == plan
    assert {link.link_id for link in plan.links} == set(unused)
    assert len(plan.blobs) == 3
    assert _files(store) == needed
    assert plan.after_bytes == take_inventory(store).size_bytes
    assert {path.name for path in store.locks.iterdir()} == {"gate", "store"}
    assert _collect(store).before_bytes == plan.after_bytes


def test_children_go_before_what_they_stand_on(store: Store) -> None:
    links, parent = [], ""
    for name in ("a", "b", "c", "d"):
        parent = make_link(store, parent, name).link_id
        links.append(parent)
    plan = _collect(store, dry_run=True)
    assert [link.link_id for link in plan.links] == links[::-1]


def test_an_incomplete_image_keeps_its_blobs_and_keep_blobs_keeps_all(store: Store) -> None:
    make_image(store, ["whole"])
    damaged = make_image(store, ["base", "app"])
    (store.links / f"{damaged.links[1]}.json").unlink()
    kept, whole, stray = (put_blob(store, name) for name in (b"app", b"whole", b"stray"))
    assert not _collect(store, keep_blobs=True).blobs
    removed = {blob.path for blob in _collect(store).blobs}
    assert removed == {whole, stray}
    assert kept.exists()


def test_leftovers_of_conversions_go_and_what_is_not_ours_stays(store: Store) -> None:
    link = make_link(store, "", "killed before its record")
    (store.links / f"{link.link_id}.json").unlink()
    for folder in (store.links, store.images, store.blobs / "sha256"):
        folder.mkdir(exist_ok=True)
        (folder / ".tmp-1-0-x").write_bytes(b"half")
    foreign = store.links / "README"
    foreign.write_text("mine")
    plan = _collect(store)
    kinds = sorted(left.kind for left in plan.leftovers)
    assert kinds == [LeftoverKind.NO_RECORD] * 2 + [LeftoverKind.UNFINISHED] * 3
    assert _files(store) == {"links/README", "store.json"}


def test_temps_of_who_need_not_hold_the_store_go_when_old_and_dead(store: Store) -> None:
    dead, alive = 2**22 + 1, os.getpid()  # above the kernel's largest process id
    old = time.time() - 7200
    paths = {}
    for process in (dead, alive):
        for age in ("old", "fresh"):
            path = store.boot / f".tmp-{process}-0-{age}"
            path.mkdir()
            (path / "vmlinuz").write_bytes(b"half")
            if age == "old":
                os.utime(path, (old, old))
            paths[process, age] = path
    _collect(store)
    assert [key for key, path in paths.items() if not path.exists()] == [(dead, "old")]


def test_boot_images_but_the_default_and_those_in_use_go(store: Store) -> None:
    names = ["1" * 64, "2" * 64, "3" * 64]
    for name in names:
        (store.boot / name).mkdir()
        (store.boot / name / "boot.json").write_text("{}")
    half = store.boot / ("4" * 64)
    half.mkdir()
    assert not _collect(store).boot_images  # none is the default: which to keep?
    assert not half.exists()
    (store.boot / "default").write_text(names[0])
    pin(store, "machine", [names[1]], holder=store.root)
    assert [image.id for image in _collect(store).boot_images] == [names[2]]
    unpin(store.root, "machine")
    assert [image.id for image in _collect(store).boot_images] == [names[1]]


def test_the_least_recently_used_go_until_it_fits(store: Store) -> None:
    old = make_image(store, ["base", "old"], used_at=100)
    make_image(store, ["base", "middle"], used_at=200)
    new = make_image(store, ["base", "new"], used_at=300)
    size = take_inventory(store).size_bytes
    assert not _collect(store, size).images
    plan = _collect(store, size - 1)
    assert [image.record for image in plan.images] == [old]
    assert [link.link_id for link in plan.links] == [old.links[1]]  # the base is shared
    assert plan.after_bytes == take_inventory(store).size_bytes < size
    pin(store, "machine", new.links, holder=store.root / "removed")
    plan = _collect(store, 0)
    assert plan.after_bytes == take_inventory(store).size_bytes == 0
    assert _files(store) == {"store.json"}


def test_images_used_at_the_same_time_go_in_order_of_name(store: Store) -> None:
    records = [make_image(store, ["base", name]) for name in "abcd"]
    size = take_inventory(store).size_bytes
    plan = _collect(store, size - 1, dry_run=True)
    assert [image.path.stem for image in plan.images] == [min(image.name for image in records)]


def test_images_that_would_be_lost_for_nothing_go_last(store: Store) -> None:
    below = make_image(store, ["base"], used_at=100)
    twins = [make_image(store, ["base", "app"], used_at=200 + n, name=f"twin {n}") for n in (0, 1)]
    above = make_image(store, ["base", "app", "top"], used_at=300)
    size = take_inventory(store).size_bytes
    plan = _collect(store, size - 1, dry_run=True)
    assert [image.record for image in plan.images] == [above]
    # Then nobody has links of its own: the oldest goes, and so it goes on.
    plan = _collect(store, 0, dry_run=True)
    assert [image.record for image in plan.images] == [above, below, *twins]
    assert plan.after_bytes == 0


def test_an_image_in_use_stays_however_small_the_store_is_to_be(
    store: Store, tmp_path: Path
) -> None:
    used = make_image(store, ["base", "used"], used_at=1)
    other = make_image(store, ["base", "other"], used_at=2)
    machine = tmp_path / "machine"
    machine.mkdir()
    pin(store, "machine", used.links, holder=machine)
    plan = _collect(store, 0)
    assert [image.record for image in plan.images] == [other]
    assert plan.after_bytes > 0
    image_path(store, used.name).unlink()
    assert not _collect(store).links  # nor without its record
    machine.rmdir()
    assert len(_collect(store).links) == 2
    assert not list(store.pins.iterdir())


def test_what_several_machines_stand_on(store: Store, tmp_path: Path) -> None:
    pin(store, "one", ["a", "b"], holder=tmp_path)
    pin(store, "two", ["b", "c"], holder=tmp_path)
    pin(store, "gone", ["d"], holder=tmp_path / "gone")
    assert pins(store) == ({"a", "b", "c"}, (store.pins / "gone.json",))
    unpin(store.root, "two")
    unpin(store.root, "two")
    assert pins(store)[0] == {"a", "b"}


@pytest.mark.parametrize("content", ["", "[]", '{"schema": 2, "holder": "/", "keeps": []}'])
def test_nothing_is_deleted_beside_a_pin_that_cannot_be_read(store: Store, content: str) -> None:
    link = make_link(store, "", "lonely")
    (store.pins / "odd.json").write_text(content)
    with pytest.raises(IntegrityError, match=r"odd\.json"):
        _collect(store)
    assert (store.links / f"{link.link_id}.vmdk").exists()


def test_nothing_is_deleted_where_it_would_be_guessing(store: Store) -> None:
    image = make_image(store, ["base"])
    lonely = make_link(store, "", "lonely")
    path = image_path(store, image.name)
    path.chmod(0o644)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(IntegrityError, match="Nothing was deleted: "):
        _collect(store)
    path.write_bytes(whole.replace(b'"schema": 1', b'"schema": 2'))
    with pytest.raises(SaltflatError, match="schema 2"):
        _collect(store)
    path.write_bytes(whole)
    record = store.links / f"{lonely.link_id}.json"
    record.chmod(0o644)
    record.write_bytes(record.read_bytes().replace(b'"schema": 1', b'"schema": 2'))
    with pytest.raises(SaltflatError, match="schema 2"):
        _collect(store)
    record.write_bytes(b"{")  # damaged only, and no image names it
    assert [link.link_id for link in _collect(store).links] == [lonely.link_id]


def test_recording_again_keeps_the_record_and_says_that_it_was_used(store: Store) -> None:
    record = make_image(store, ["base"], used_at=100)
    path = image_path(store, record.name)
    before = path.stat()
    make_image(store, ["base"], used_at=500)
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_mtime == 500
    make_image(store, ["base"], name="renamed", used_at=600)
    inventory = take_inventory(store)
    assert len(inventory.images) == 2  # another configuration: another image on the same links
    assert {len(images) for images in inventory.images_by_link().values()} == {2}


def test_documents_are_blobs_under_their_digests(store: Store) -> None:
    record = make_image(store, ["base"])
    inventory = take_inventory(store)
    assert set(record.documents) == inventory.blobs.keys()
    for blob in inventory.blobs.values():
        assert str(Digest.of(blob.path.read_bytes())) == blob.digest
    assert record.parameters == PARAMETERS


def test_the_beginning_of_a_blob_goes(store: Store) -> None:
    partial = partial_path(blob_path(store.blobs, Digest.of(b"x")))
    partial.parent.mkdir()
    partial.write_bytes(b"begun")
    plan = _collect(store)
    assert [leftover.path for leftover in plan.leftovers] == [partial]
    assert not partial.exists()

"""Links of layers that change nothing, found between the disks of a chain."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter.artifact.empty_links import with_empty_links
from converter.artifact.image_documents import check_layers
from converter.errors import IntegrityError
from converter.store.layout import Store
from converter.store.links import LinkRecord, PendingLink, begin_link, link_id, read_link_record
from tests.unit.store.small_store import PARAMETERS, diff_id, image_of, make_image, make_link


def share_link(store: Store, parent: str, *names: str) -> LinkRecord:
    """Make the one empty link of several layers."""
    layers = tuple(str(diff_id(name)) for name in names)
    draft = LinkRecord(link_id(parent, layers, PARAMETERS), parent, layers, PARAMETERS)
    pending = begin_link(store, draft, on_wait=lambda: None)
    assert isinstance(pending, PendingLink)
    return pending.commit_empty()


@pytest.mark.parametrize(
    "layers",
    [
        ("one",),
        ("one", "two"),
        ("empty a", "one"),
        ("one", "empty a"),
        ("empty a", "empty b", "one", "empty c", "two", "empty d", "empty e"),
        ("one", "empty a", "two", "empty a"),
    ],
)
def test_every_layer_has_its_link(tmp_path: Path, layers: tuple[str, ...]) -> None:
    store = Store(tmp_path)
    image = make_image(store, layers)
    disks = [read_link_record(store, identity) for identity in image.links]
    whole = with_empty_links(image_of(layers), [disk for disk in disks if disk], store)
    assert [link.diff_ids for link in whole] == [(str(diff_id(name)),) for name in layers]
    assert [link.empty for link in whole] == [name.startswith("empty") for name in layers]
    check_layers(image_of(layers), whole)


def test_layers_that_share_an_empty_link(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one = make_link(store, "", "one")
    shared = share_link(store, one.link_id, "a", "b", "c")
    two = make_link(store, one.link_id, "two")
    image = image_of(("one", "a", "b", "c", "two"))
    assert with_empty_links(image, [one, two], store) == (one, shared, two)


def test_what_the_store_lacks_is_left_out(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one = make_link(store, "", "one")
    assert with_empty_links(image_of(("one", "gone")), [one], store) == (one,)


def test_links_of_another_image(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one = make_link(store, "", "one")
    two = make_link(store, one.link_id, "two")
    check_layers(image_of(("one", "nothing", "two")), (one, two))
    for layers in (("one",), ("two", "one"), ("other",)):
        with pytest.raises(IntegrityError):
            check_layers(image_of(layers), (one, two))

"""From images that were looked up to what workers are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from converter.batch.batch import Batch
from converter.batch.lookup import LookedUp
from converter.batch.orders import ConvertOrder, FetchOrder, RecordOrder
from converter.batch.plan import TaskKind
from converter.batch.treatments import treatment
from converter.batch.wishes import BundleWish, ExportWish, OutputWish, PushWish, Treatment
from converter.convert_options import ConvertOptions
from converter.errors import UsageError
from converter.image.digest import Digest
from converter.image.model import Descriptor, Image, ImageConfig, Layer, Manifest
from converter.image.platform import Platform
from converter.image.source import Origin
from converter.layer.limits import Limits
from converter.policy import ANYTHING, Policy
from converter.store.layout import Store

AMD64 = Platform("linux", "amd64")
TREATMENT = Treatment(ConvertOptions(), Origin(), (AMD64,))


def looked_up(
    source: str, layers: str, treatment: Treatment = TREATMENT, *, line: int = 1
) -> LookedUp:
    """Return an image with a layer for each letter."""
    raw = source.encode()
    digests = [Digest.of(letter.encode()) for letter in layers]
    blobs = tuple(Descriptor("type", digest, 10) for digest in digests)
    config = Descriptor("type", Digest.of(raw), len(raw))
    image = Image(
        source,
        Digest.of(raw),
        AMD64,
        Manifest("type", config, blobs),
        raw,
        ImageConfig(AMD64, {}, tuple(digests)),
        raw,
        tuple(Layer(blob, digest) for blob, digest in zip(blobs, digests, strict=True)),
    )
    return LookedUp(line, source, AMD64, treatment, image)


def batch(images: Sequence[LookedUp], folder: Path) -> Batch:
    return Batch(images, Store(folder / "store"))


def test_a_worker_is_told_which_layers_are_its_own(tmp_path: Path) -> None:
    found = batch([looked_up("a.example/x:1", "abc"), looked_up("b.example/y:1", "abd")], tmp_path)
    convert = [task for task in found.plan.tasks if task.kind is TaskKind.CONVERT]
    orders = [found.order_of(task) for task in convert]
    assert all(isinstance(order, ConvertOrder) for order in orders)
    assert [(order.source, order.skip, order.layers) for order in orders] == [  # type: ignore[union-attr]  # see above
        ("a.example/x:1", 0, 2),
        ("a.example/x:1", 2, 3),
        ("b.example/y:1", 2, 3),
    ]
    fetch = found.order_of(found.plan.tasks[0])
    assert isinstance(fetch, FetchOrder)
    assert [source for source, _origin in fetch.others] == ["b.example/y:1"]


def test_links_that_are_shared_have_the_widest_limits_and_no_policy_of_one(tmp_path: Path) -> None:
    strict = replace(
        TREATMENT,
        conversion=ConvertOptions(limits=Limits(max_entries=5), policy=Policy(max_disk_bytes=9)),
    )
    found = batch([looked_up("a:1", "ab", strict), looked_up("b:1", "ac")], tmp_path)
    options = {
        task.id: order.options
        for task in found.plan.tasks
        if isinstance(order := found.order_of(task), ConvertOrder | RecordOrder)
    }
    shared, own, other, record, _other_record = options.values()
    assert (shared.limits, shared.policy) == (Limits(), ANYTHING)
    assert own == record == strict.conversion
    assert other == ConvertOptions()


def test_layers_in_a_folder_are_read_there_for_all_who_have_them(tmp_path: Path) -> None:
    found = batch([looked_up("a.example/x:1", "a"), looked_up("oci:layout", "a")], tmp_path)
    assert [task.kind.value for task in found.plan.tasks] == ["convert", "record", "record"]
    order = found.order_of(found.plan.tasks[0])
    assert isinstance(order, ConvertOrder)
    assert order.source == "oci:layout"


def test_two_outputs_in_one_place_are_refused(tmp_path: Path) -> None:
    wishes = (BundleWish(place="{name}"), PushWish(place="r.example/{name}", codec="zstd"))
    treatment = replace(TREATMENT, outputs=wishes)
    images = [
        looked_up("debian:12", "a", treatment, line=3),
        looked_up("r.example/debian:13", "b", treatment, line=7),
    ]
    with pytest.raises(UsageError) as error:
        batch(images, tmp_path)
    assert "line 7: r.example/debian:13 (linux/amd64) would have its bundle" in error.value.what
    assert "of line 3" in error.value.what
    assert "its push at r.example/debian" not in error.value.what  # its digest is its name


def _outputs(*wishes: OutputWish) -> Treatment:
    return replace(TREATMENT, outputs=wishes)


def _export(place: str, kind: str = "stream") -> ExportWish:
    words = {"output": place, "type": kind}
    (wish,) = treatment(TREATMENT, {"export": (words,)}).outputs
    assert isinstance(wish, ExportWish)
    return wish


def _push(place: str) -> PushWish:
    return PushWish(place=place, codec="zstd")


@pytest.mark.parametrize(
    ("wishes", "fault"),
    [
        ((BundleWish(place="same"), BundleWish(place="x/../same")), "as a:1 (linux/amd64)"),
        ((BundleWish(place="same"), BundleWish(place="link/../same")), ""),
        ((BundleWish(place="same"), BundleWish(place="link")), "has its bundle at same"),
        ((BundleWish(place="same"), _export("same/disk.vmdk")), "has its bundle at same"),
        ((BundleWish(place="m"), BundleWish(place="m/b/c")), "has its bundle at m"),
        # The statement on either would be x.provenance.json.
        ((_export("x.vmdk"), _export("x.disk", "sparse")), "has its export at x.vmdk"),
        ((_export("x.vmdk"), _export("x.disk", "flat")), ""),
        ((_export("x-flat.vmdk"), _export("x.disk", "flat")), "at x-flat.vmdk"),
        (
            (
                _push("r:80/a:1"),
                _push("docker://r:80/a:1"),
            ),
            "its push at r:80/a:1",
        ),
        ((_push("r:80/a"), _push("r:80/a")), ""),
    ],
)
def test_places_are_compared_by_what_they_are(
    wishes: tuple[OutputWish, OutputWish],
    fault: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("elsewhere/below").mkdir(parents=True)
    Path("same").mkdir()
    Path("link").symlink_to("elsewhere/below" if fault == "" else "same")
    first, second = map(_outputs, wishes)
    images = [looked_up("a:1", "a", first, line=3), looked_up("b:1", "b", second, line=4)]
    if not fault:
        assert len(batch(images, tmp_path).plan.images) == 2
        return
    with pytest.raises(UsageError) as error:
        batch(images, tmp_path)
    assert fault in error.value.what
    assert error.value.what.count("line 4: b:1") == 1


def test_a_name_may_be_a_template_s_in_two_places(tmp_path: Path) -> None:
    sites = [
        treatment(TREATMENT, {"vsphere": {"url": f"{host}.example", "username": "u"}})
        for host in ("north", "south", "south")
    ]
    images = [looked_up("a:1", "a", site, line=line) for line, site in enumerate(sites, 1)]
    assert len(batch(images[:2], tmp_path).plan.images) == 2
    with pytest.raises(UsageError, match=r"line 3: a:1 .* of line 2"):
        batch(images, tmp_path)


def test_a_name_that_an_output_cannot_have_fails_its_image_alone(tmp_path: Path) -> None:
    treatment = replace(TREATMENT, outputs=(PushWish(place="{name}@{tag}", codec="zstd"),))
    found = batch([looked_up("a:1", "a", treatment), looked_up("b:1", "b")], tmp_path)
    failure = found.plan.images[0].failure
    assert failure is not None
    assert failure.kind == "usage"
    assert failure.what.startswith("line 1: ")
    assert found.plan.images[1].failure is None

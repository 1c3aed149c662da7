"""Chains pushed to real registries and pulled back, with and without the referrers API."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.images.prepared import SALTFLAT
from tests.integration.artifact_places import CHAIN_TYPE, KINDS, Place
from tests.integration.conftest import Saltflat
from tests.integration.elsewhere import link_digests
from tests.integration.watching_proxy import Asked, Reply

pytestmark = pytest.mark.integration


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, place_of: Callable[[str], Place]) -> Place:
    """Return an empty registry, of one kind after the other."""
    return place_of(request.param)


@pytest.fixture
def repository() -> str:
    """Return the name of the repository that the tests use."""
    return "test/app"


@pytest.fixture
def image(place: Place, repository: str, corner_layout: Path) -> str:
    """Return the corner image's name in the registry."""
    return place.put_image(corner_layout, "latest", f"{repository}:1")


def push(saltflat: Saltflat, store: Path, *arguments: str) -> dict[str, object]:
    out = saltflat.good("push", "--store", store, "--plain-http", "--format", "json", *arguments)
    document: dict[str, object] = json.loads(out)
    return document


def pull(saltflat: Saltflat, store: Path, *arguments: str | Path) -> dict[str, object]:
    out = saltflat.good("pull", "--store", store, "--plain-http", "--format", "json", *arguments)
    document: dict[str, object] = json.loads(out)
    return document


def test_what_was_pushed_is_found_by_its_image_and_comes_back_the_same(
    saltflat: Saltflat, place: Place, image: str, repository: str, tmp_path: Path
) -> None:
    pushed = push(saltflat, tmp_path / "a", image, f"{place.host}/{repository}")
    # The second tool lists it, whichever way the registry keeps the list.
    listed = json.loads(
        place.ask_regctl(
            "artifact", "list", "--format", "{{jsonPretty .Descriptors}}", image, home=tmp_path
        )
    )
    assert [entry["digest"] for entry in listed] == [pushed["digest"]]
    assert [entry["artifactType"] for entry in listed] == [CHAIN_TYPE]
    tags = json.loads(place.get(f"{repository}/tags/list"))["tags"]
    fall_back = str(pushed["subject"]).replace(":", "-")
    assert sorted(tags) == (["1", fall_back] if place.kind == KINDS[0] else ["1"])
    # By the image's name, and by the artifact's.
    for number, name in enumerate([image, f"{image}@{pushed['digest']}"]):
        store, bundle = tmp_path / f"b{number}", tmp_path / f"bundle{number}"
        pulled = pull(saltflat, store, name, "-o", bundle)
        assert pulled["artifact"] == pushed["digest"]
        assert pulled["digest"] == pushed["subject"]
        # Every file: disks, states, and records, that of the layer that changes nothing too.
        assert link_digests(store) == link_digests(tmp_path / "a")
        saltflat.good("store", "verify", "--store", store)
        saltflat.good("verify", bundle, "--image", image, "--plain-http", "--store", store)
        # Nothing is left to convert, and no layer to fetch.
        place.proxy.asked.clear()
        converted = json.loads(
            saltflat.good("convert", "--store", store, "--plain-http", "--format=json", image)
        )
        assert place.proxy.paths("GET", "/blobs/") == []
        assert converted["links"] == [
            {**link, "file": str(store / "links" / f"{link['link_id']}.vmdk")}
            for link in pulled["links"]  # type: ignore[attr-defined]  # JSON
        ]


def test_pushing_again_sends_nothing_whatever_the_codec(
    saltflat: Saltflat, place: Place, image: str, repository: str, tmp_path: Path
) -> None:
    target = f"{place.host}/{repository}"
    first = push(saltflat, tmp_path / "a", image, target)
    assert place.proxy.blobs_sent() > 0
    for codec in ("zstd", "gzip", "none"):
        place.proxy.asked.clear()
        again = push(saltflat, tmp_path / "a", image, target, "--codec", codec)
        assert place.proxy.blobs_sent() == 0
        assert again == first
    # From another store, under a tag: the manifest alone.
    place.proxy.asked.clear()
    tagged = push(saltflat, tmp_path / "b", image, f"{target}:chain", "--codec", "gzip")
    assert place.proxy.blobs_sent() == 0
    assert (tagged["digest"], tagged["tag"]) == (first["digest"], "chain")
    assert pull(saltflat, tmp_path / "c", f"{target}:chain")["artifact"] == first["digest"]
    # It is no image, and whoever takes it for one is told what to do.
    done = saltflat("convert", "--store", tmp_path / "c", "--plain-http", f"{target}:chain")
    assert (done.returncode, b"saltflat pull" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("codec", ["gzip", "none"])
def test_two_pushers_with_different_codecs_are_both_right(
    saltflat: Saltflat, place: Place, image: str, repository: str, tmp_path: Path, codec: str
) -> None:
    one = push(saltflat, tmp_path / "a", image, f"{place.host}/{repository}")
    # From another store, to another repository, with the same codec: the very same artifact.
    same = push(saltflat, tmp_path / "b", image, f"{place.host}/{repository}-same")
    assert same["digest"] == one["digest"]
    # To a repository that knows nothing of the first.
    elsewhere = f"{place.host}/{repository}-other"
    other = push(saltflat, tmp_path / "a", image, elsewhere, "--codec", codec)
    assert one["digest"] != other["digest"]
    for store, digest, repo in (("x", one, repository), ("y", other, f"{repository}-other")):
        pull(saltflat, tmp_path / store, f"{place.host}/{repo}@{digest['digest']}")
    assert link_digests(tmp_path / "x") == link_digests(tmp_path / "y")


def test_a_chain_that_shares_layers_sends_only_what_is_new(
    saltflat: Saltflat, place: Place, repository: str, corner_layout: Path, tmp_path: Path
) -> None:
    target = f"{place.host}/{repository}"
    short = place.put_image(corner_layout, "prefix-2", f"{repository}:short")
    whole = place.put_image(corner_layout, "latest", f"{repository}:whole")
    push(saltflat, tmp_path / "a", short, target)
    place.proxy.asked.clear()
    push(saltflat, tmp_path / "a", whole, target)
    # Two more disks and their states, a record, the image's manifest as a blob.
    assert place.proxy.blobs_sent() == 6


@pytest.mark.parametrize(
    ("interruption", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)]
)
def test_an_interrupted_push_goes_on_where_it_was(
    saltflat: Saltflat,
    place: Place,
    image: str,
    repository: str,
    tmp_path: Path,
    interruption: signal.Signals,
    code: int,
) -> None:
    target = f"{place.host}/{repository}"
    saltflat.good("convert", "--store", tmp_path / "a", "--plain-http", image)
    command = [*SALTFLAT, "push", "--store", tmp_path / "a", "--plain-http", image, target]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=saltflat.whole_environment)
    place.proxy.asked.clear()

    def interrupt_at_the_third(asked: Asked) -> Reply | None:
        if asked.sends_blob and place.proxy.blobs_sent() == 3:
            process.send_signal(interruption)
            return Reply(0)
        return None

    place.proxy.meddle = interrupt_at_the_third
    assert process.wait(60) == code
    place.proxy.meddle = lambda _asked: None
    assert {path.name for path in (tmp_path / "a" / "cache").iterdir()} <= {"names"}
    sent_before = place.proxy.blobs_sent() - 1
    place.proxy.asked.clear()
    push(saltflat, tmp_path / "a", image, target)
    # 4 disks, 4 states, a record, the image's manifest; its configuration is there, as its own.
    # What each of the two senders was at is sent again.
    assert 10 - sent_before <= place.proxy.blobs_sent() <= 10 - sent_before + 2
    pull(saltflat, tmp_path / "b", image)


def test_a_bundle_whose_links_are_in_the_store(
    saltflat: Saltflat, place: Place, image: str, repository: str, tmp_path: Path
) -> None:
    target = f"{place.host}/{repository}"
    bundle = tmp_path / "bundle"
    saltflat.good("convert", "--store", tmp_path / "a", "--plain-http", image, "-o", bundle)
    of_bundle = push(saltflat, tmp_path / "a", str(bundle), target)
    assert of_bundle == push(saltflat, tmp_path / "a", image, target)
    done = saltflat("push", "--store", tmp_path / "empty", "--plain-http", bundle, target)
    assert done.returncode == 3
    assert b"Push the image instead" in done.stderr


def test_a_tag_of_something_else_is_not_taken(
    saltflat: Saltflat, place: Place, image: str, repository: str, tmp_path: Path
) -> None:
    before = place.get(f"{repository}/manifests/1")
    done = saltflat("push", "--store", tmp_path / "a", "--plain-http", image, image)
    assert done.returncode == 2
    assert b"is not a chain" in done.stderr
    assert place.get(f"{repository}/manifests/1") == before


def test_several_chains_of_one_image(
    saltflat: Saltflat, place: Place, image: str, repository: str, tmp_path: Path
) -> None:
    target = f"{place.host}/{repository}"
    large = push(saltflat, tmp_path / "a", image, target)
    small = push(saltflat, tmp_path / "a", image, target, "--capacity", "1G")
    plain = push(saltflat, tmp_path / "a", image, target, "--no-journal")
    done = saltflat("pull", "--store", tmp_path / "b", "--plain-http", image)
    assert done.returncode == 2
    for chain in (large, small, plain):
        assert str(chain["digest"]).encode() in done.stderr
    for options, chain in (
        (("--capacity", "1G"), small),
        (("--capacity", "16G", "--journal"), large),
        (("--no-journal",), plain),
    ):
        assert pull(saltflat, tmp_path / "b", image, *options)["artifact"] == chain["digest"]
    done = saltflat("pull", "--store", tmp_path / "b", "--plain-http", image, "--capacity=2G")
    assert done.returncode == 3


def test_an_image_without_a_chain_and_an_image_that_is_not_there(
    saltflat: Saltflat, place: Place, image: str, repository: str, tmp_path: Path
) -> None:
    done = saltflat("pull", "--store", tmp_path, "--plain-http", image)
    assert (done.returncode, b"has no chain" in done.stderr) == (3, True)
    done = saltflat("pull", "--store", tmp_path, "--plain-http", f"{place.host}/{repository}:no")
    assert (done.returncode, b"was not found" in done.stderr) == (3, True)


def test_the_image_need_not_be_in_the_repository(
    saltflat: Saltflat, place: Place, repository: str, corner_layout: Path, tmp_path: Path
) -> None:
    target = f"{place.host}/{repository}"
    layout = tmp_path / "secret-folder" / "corner"
    shutil.copytree(corner_layout, layout)
    pushed = push(saltflat, tmp_path / "a", f"oci:{layout}:latest", f"{target}:chain")
    chain = pull(saltflat, tmp_path / "b", f"{target}:chain")
    assert (chain["artifact"], chain["digest"]) == (pushed["digest"], pushed["subject"])
    # Where the image lay on the pusher's disk is nobody's business.
    assert chain["reference"] == "oci:corner:latest"
    # Once the image is there, it is found by the image too.
    image = place.put_image(layout, "latest", f"{repository}:1")
    assert pull(saltflat, tmp_path / "c", image)["artifact"] == pushed["digest"]


def test_pushers_at_the_same_time_are_all_listed(
    saltflat: Saltflat, place: Place, image: str, repository: str, tmp_path: Path
) -> None:
    """Without the API each rewrites the same index; here they share a store, and its lock."""
    store, target = tmp_path / "a", f"{place.host}/{repository}"
    capacities = ("1G", "2G", "4G")
    with ThreadPoolExecutor(len(capacities)) as pushers:
        pushed = pushers.map(
            lambda capacity: push(saltflat, store, image, target, "--capacity", capacity),
            capacities,
        )
        digests = sorted(str(document["digest"]) for document in pushed)
    form = "{{range .Descriptors}}{{println .Digest}}{{end}}"
    listed = place.ask_regctl("artifact", "list", "--format", form, image, home=tmp_path)
    assert sorted(listed.split()) == digests


def test_what_another_writer_undid_is_put_back_by_the_next_push(
    saltflat: Saltflat, place_of: Callable[[str], Place], corner_layout: Path, tmp_path: Path
) -> None:
    place = place_of(KINDS[0])
    image = place.put_image(corner_layout, "latest", "test/app:1")
    target = f"{place.host}/test/app"
    one = push(saltflat, tmp_path / "a", image, target)
    index_tag = str(one["subject"]).replace(":", "-")
    before = place.manifest("test/app", index_tag)
    other = push(saltflat, tmp_path / "a", image, target, "--capacity", "1G")
    place.put_manifest("test/app", index_tag, before)
    assert pull(saltflat, tmp_path / "b", image)["artifact"] == one["digest"]
    place.proxy.asked.clear()
    assert push(saltflat, tmp_path / "a", image, target, "--capacity", "1G") == other
    assert place.proxy.blobs_sent() == 0
    entries = place.manifest("test/app", index_tag)["manifests"]
    assert [entry["digest"] for entry in entries] == [one["digest"], other["digest"]]


@pytest.mark.parametrize(("status", "code"), [(0, 8), (500, 8), (503, 8), (403, 4), (405, 1)])
def test_a_registry_that_takes_nothing(
    saltflat: Saltflat,
    place_of: Callable[[str], Place],
    corner_layout: Path,
    tmp_path: Path,
    status: int,
    code: int,
) -> None:
    """Nothing of oras gets out: neither its exceptions nor its patience."""
    place = place_of(KINDS[1])
    place.proxy.meddle = lambda asked: Reply(status) if asked.method == "POST" else None
    done = saltflat(
        *("push", "--store", tmp_path / "a", "--plain-http", "--retries", "0"),
        *(f"oci:{corner_layout}:prefix-2", f"{place.host}/test/app"),
    )
    assert done.returncode == code, done.stderr
    assert b"bug" not in done.stderr
    assert {path.name for path in (tmp_path / "a" / "cache").iterdir()} <= {"names"}


@pytest.mark.parametrize(
    ("interruption", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)]
)
def test_an_interrupted_pull_keeps_the_links_that_it_has(
    saltflat: Saltflat,
    place_of: Callable[[str], Place],
    corner_layout: Path,
    tmp_path: Path,
    interruption: signal.Signals,
    code: int,
) -> None:
    place = place_of(KINDS[1])
    target = f"{place.host}/test/app:chain"
    pushed = push(saltflat, tmp_path / "a", f"oci:{corner_layout}:latest", target)
    blobs = [link["blob"] for link in pushed["links"]]  # type: ignore[attr-defined]  # JSON
    command = [*SALTFLAT, "pull", "--store", tmp_path / "b", "--plain-http", target]
    links = tmp_path / "b" / "links"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=saltflat.whole_environment)

    def interrupt_once_two_are_there(asked: Asked) -> Reply | None:
        if asked.path.endswith(blobs[2]) and process.poll() is None:
            while len(list(links.glob("[0-9a-f]*.json"))) < 2 and process.poll() is None:
                time.sleep(0.01)  # the two below do not depend on this one
            process.send_signal(interruption)
            return Reply(0)
        return None

    place.proxy.meddle = interrupt_once_two_are_there
    assert process.wait(60) == code
    place.proxy.meddle = lambda _asked: None
    place.proxy.asked.clear()
    saltflat.good("store", "verify", "--store", tmp_path / "b")
    pull(saltflat, tmp_path / "b", target)
    fetched = [blob for blob in blobs if place.proxy.paths("GET", blob)]
    assert fetched == blobs[2:]
    assert link_digests(tmp_path / "b") == link_digests(tmp_path / "a")

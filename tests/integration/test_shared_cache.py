"""A repository as the cache of links that several machines share: what it saves and must not do."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.integration.artifact_places import KINDS, Place
from tests.integration.conftest import Saltflat
from tests.integration.elsewhere import link_digests
from tests.integration.watching_proxy import Asked, Reply

pytestmark = pytest.mark.integration

REPOSITORY = "shared/links"


@pytest.fixture
def place(place_of: Callable[[str], Place]) -> Place:
    """Return an empty registry. The cache has no referrers, so one kind will do."""
    return place_of(KINDS[0])


@pytest.fixture
def cache(place: Place) -> str:
    """Return the cache's repository."""
    return f"{place.host}/{REPOSITORY}"


def convert(saltflat: Saltflat, store: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return saltflat("convert", "--store", store, "--plain-http", *arguments)


def made(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    """Return the layers that a conversion read: of empty ones too."""
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stderr.decode().splitlines()
    return [line.partition(":")[0] for line in lines if line.startswith("layer")]


@pytest.fixture
def filled(saltflat: Saltflat, cache: str, corner_layout: Path, tmp_path: Path) -> Path:
    """Return a store whose links the cache has too; the fourth layer changes nothing."""
    store = tmp_path / "first"
    done = convert(saltflat, store, f"oci:{corner_layout}:latest", "--cache-repo", cache)
    assert len(made(done)) == 5
    return store


def test_each_shared_prefix_is_converted_once(
    saltflat: Saltflat, place: Place, cache: str, corner_layout: Path, tmp_path: Path
) -> None:
    layout = f"oci:{corner_layout}"
    first = convert(saltflat, tmp_path / "a", f"{layout}:prefix-2", "--cache-repo", cache)
    assert made(first) == ["layer 1/2", "layer 2/2"]
    other = convert(saltflat, tmp_path / "b", f"{layout}:latest", "--cache-repo", cache)
    assert made(other) == ["layer 3/5", "layer 4/5", "layer 5/5"]
    # The first machine takes what the other added, the empty link among it, and has nothing to do.
    place.proxy.asked.clear()
    again = convert(saltflat, tmp_path / "a", f"{layout}:latest", "--cache-repo", cache)
    assert made(again) == []
    assert place.proxy.blobs_sent() == 0
    assert link_digests(tmp_path / "a") == link_digests(tmp_path / "b")
    saltflat.good("store", "verify", "--store", tmp_path / "a")


def test_layers_whose_links_are_in_the_cache_are_not_fetched(
    saltflat: Saltflat, place: Place, cache: str, filled: Path, corner_layout: Path, tmp_path: Path
) -> None:
    image = place.put_image(corner_layout, "latest", "test/app:1")
    place.proxy.asked.clear()
    done = convert(saltflat, tmp_path / "b", image, "--cache-repo", cache)
    assert made(done) == []
    fetched = place.proxy.paths("GET", "/v2/test/app/blobs/")
    config = place.manifest("test/app", "1")["config"]["digest"]
    assert fetched == [f"/v2/test/app/blobs/{config}"]
    assert link_digests(tmp_path / "b") == link_digests(filled)


def test_two_machines_at_the_same_time(
    saltflat: Saltflat, place: Place, cache: str, corner_layout: Path, tmp_path: Path
) -> None:
    arguments = (f"oci:{corner_layout}:latest", "--cache-repo", cache)
    with ThreadPoolExecutor(2) as machines:
        stores = [tmp_path / "a", tmp_path / "b"]
        done = list(machines.map(lambda store: convert(saltflat, store, *arguments), stores))
    layers = [made(one) for one in done]
    # Whoever is behind takes what the other has pushed; both at once may make the same.
    assert all(f"layer {number}/5" in layers[0] + layers[1] for number in range(1, 6))
    assert link_digests(stores[0]) == link_digests(stores[1])
    # Whatever the race was, the cache now has each link once, and a third makes nothing.
    tags = json.loads(place.get(f"{REPOSITORY}/tags/list"))["tags"]
    records = [path.stem for path in (tmp_path / "a" / "links").glob("*.json")]
    assert sorted(tags) == sorted(f"link-{identity}" for identity in records)
    assert made(convert(saltflat, tmp_path / "c", *arguments)) == []
    assert link_digests(tmp_path / "c") == link_digests(stores[0])


def test_the_loser_of_a_race_sends_nothing(
    saltflat: Saltflat, place: Place, cache: str, corner_layout: Path, tmp_path: Path
) -> None:
    """The other machine is always a little faster: what was missing is there before the push."""
    arguments = (f"oci:{corner_layout}:latest", "--cache-repo", cache)
    made_first = convert(saltflat, tmp_path / "a", *arguments)
    place.proxy.asked.clear()
    # The lowest link is asked for twice before it is made: with the whole chain, and by itself.
    looks: Counter[str] = Counter()

    def missing_until_made(asked: Asked) -> Reply | None:
        if asked.method != "GET" or "/manifests/link-" not in asked.path:
            return None
        lowest = not looks or asked.path == next(iter(looks))
        looks[asked.path] += 1
        return Reply(404) if looks[asked.path] <= (2 if lowest else 1) else None

    place.proxy.meddle = missing_until_made
    loser = convert(saltflat, tmp_path / "b", *arguments)
    assert made(loser) == made(made_first)
    assert link_digests(tmp_path / "a") == link_digests(tmp_path / "b")
    assert {asked.method for asked in place.proxy.asked} == {"GET"}
    assert len(looks) == 5


def test_modes(
    saltflat: Saltflat, place: Place, cache: str, corner_layout: Path, tmp_path: Path
) -> None:
    layout = f"oci:{corner_layout}"
    options = ("--cache-repo", cache, "--cache-mode")
    assert len(made(convert(saltflat, tmp_path / "a", f"{layout}:prefix-2", *options, "read"))) == 2
    assert place.proxy.blobs_sent() == 0
    assert (
        len(made(convert(saltflat, tmp_path / "b", f"{layout}:prefix-2", *options, "write"))) == 2
    )
    assert place.proxy.blobs_sent() > 0
    assert (
        len(made(convert(saltflat, tmp_path / "c", f"{layout}:prefix-2", *options, "write"))) == 2
    )
    assert made(convert(saltflat, tmp_path / "d", f"{layout}:prefix-2", *options, "read")) == []
    done = convert(saltflat, tmp_path / "e", f"{layout}:latest", "--cache-mode", "read")
    assert (done.returncode, b"--cache-repo" in done.stderr) == (2, True)
    done = convert(saltflat, tmp_path / "e", f"{layout}:latest", "--cache-repo", f"{cache}:tag")
    assert done.returncode == 2


@pytest.mark.parametrize("status", [0, 401, 404, 500])
def test_a_cache_that_is_broken_costs_a_warning(
    saltflat: Saltflat,
    place: Place,
    cache: str,
    corner_layout: Path,
    tmp_path: Path,
    status: int,
) -> None:
    place.proxy.meddle = lambda _asked: Reply(status)
    done = convert(saltflat, tmp_path / "a", f"oci:{corner_layout}:prefix-2", "--cache-repo", cache)
    assert len(made(done)) == 2
    assert b"Warning: cache" in done.stderr
    # One that does not answer is not asked again, but for the attempts that any request has.
    if status != 404:
        assert len({asked.path for asked in place.proxy.asked}) == 1


def test_who_may_only_read_a_cache_is_told_once(
    saltflat: Saltflat, place: Place, cache: str, corner_layout: Path, tmp_path: Path
) -> None:
    layout = f"oci:{corner_layout}"
    convert(saltflat, tmp_path / "a", f"{layout}:prefix-2", "--cache-repo", cache)
    place.proxy.asked.clear()
    place.proxy.meddle = lambda asked: Reply(403) if asked.method == "POST" else None
    done = convert(saltflat, tmp_path / "b", f"{layout}:latest", "--cache-repo", cache)
    assert made(done) == ["layer 3/5", "layer 4/5", "layer 5/5"]
    # Two links are pushed at a time.
    assert 1 <= done.stderr.count(b"Warning: cache") <= 2


def parts(place: Place, identity: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a link artifact's manifest and record."""
    manifest = place.manifest(REPOSITORY, f"link-{identity}")
    record = json.loads(place.get(f"{REPOSITORY}/blobs/{manifest['config']['digest']}"))
    return manifest, record


def put(
    place: Place, identity: str, manifest: dict[str, Any], record: dict[str, Any] | None = None
) -> None:
    """Put another artifact in the place of a link's."""
    if record is not None:
        raw = json.dumps(record).encode()
        manifest = {**manifest, "config": place.put_blob(REPOSITORY, raw, manifest["config"])}
    place.put_manifest(REPOSITORY, f"link-{identity}", manifest)


def chain_of(store: Path) -> list[str]:
    """Return the ids of the disks in a store, base first."""
    (image,) = (store / "images").iterdir()
    links: list[str] = json.loads(image.read_bytes())["links"]
    return links


def swap_link(place: Place, store: Path) -> None:
    """Let the third link have the disk of the fourth, and say so everywhere."""
    _swap(place, store, 0, ("size_bytes", "sha256", "grains"))


def swap_state(place: Place, store: Path) -> None:
    """Let the third link have the state of the fourth, and say so everywhere."""
    _swap(place, store, 1, ("state_size_bytes", "state_sha256"))


def _swap(place: Place, store: Path, layer: int, told: Sequence[str]) -> None:
    """Let the third link's artifact have a layer of the fourth's, and its record what is `told`."""
    _, _, third, fourth = [parts(place, identity) for identity in chain_of(store)]
    mine, theirs = third[0]["layers"][layer], fourth[0]["layers"][layer]
    for name in ("vnd.saltflat.content.size", "vnd.saltflat.content.sha256"):
        mine["annotations"][name] = theirs["annotations"][name]
    mine.update(digest=theirs["digest"], size=theirs["size"])
    record = {**third[1], **{name: fourth[1][name] for name in told}}
    put(place, third[1]["link_id"], third[0], record)


def swap_blob(place: Place, store: Path) -> None:
    """Let the third link's disk be another blob, and leave the record."""
    _, _, third, fourth = [parts(place, identity) for identity in chain_of(store)]
    disk, state = third[0]["layers"]
    theirs = fourth[0]["layers"][0]
    disk.update(digest=theirs["digest"], size=theirs["size"])
    put(place, third[1]["link_id"], {**third[0], "layers": [disk, state]})


def swap_parent(place: Place, store: Path) -> None:
    """Let the third link's record name another parent."""
    first, _, third, _ = [parts(place, identity) for identity in chain_of(store)]
    record = {**third[1], "parent": first[1]["link_id"]}
    for blob in third[0]["layers"]:
        blob["annotations"]["vnd.saltflat.link.parent"] = first[1]["link_id"]
    put(place, third[1]["link_id"], third[0], record)


def edit_record(place: Place, store: Path) -> None:
    """Let the third link's record name another layer."""
    _, _, third, fourth = [parts(place, identity) for identity in chain_of(store)]
    put(place, third[1]["link_id"], third[0], {**third[1], "diff_ids": fourth[1]["diff_ids"]})


def another_link(place: Place, store: Path) -> None:
    """Let the third link's tag be the fourth link, a good one."""
    _, _, third, fourth = [parts(place, identity) for identity in chain_of(store)]
    put(place, third[1]["link_id"], fourth[0])


def say_empty(place: Place, store: Path) -> None:
    """Let the third link's record say that its layer changes nothing."""
    _, _, third, _ = [parts(place, identity) for identity in chain_of(store)]
    gone = {"size_bytes": 0, "sha256": "", "state_size_bytes": 0, "state_sha256": "", "grains": 0}
    put(place, third[1]["link_id"], third[0], {**third[1], **gone, "empty": True})


POISONS = [swap_link, swap_blob, swap_state, swap_parent, edit_record, another_link, say_empty]
# Consistent in themselves, so that only the layers can tell.
UNDETECTED = [say_empty]


@pytest.mark.parametrize("poison", POISONS)
def test_a_poisoned_link_is_refused_when_it_is_verified(
    saltflat: Saltflat,
    place: Place,
    cache: str,
    filled: Path,
    corner_layout: Path,
    tmp_path: Path,
    poison: Callable[[Place, Path], None],
) -> None:
    arguments = (f"oci:{corner_layout}:latest", "--cache-repo", cache)
    done = convert(saltflat, tmp_path / "good", *arguments, "--cache-verify")
    assert len(made(done)) == 5
    poison(place, filled)
    victim = chain_of(filled)[2]
    done = convert(saltflat, tmp_path / "b", *arguments, "--cache-verify")
    assert done.returncode == 5, done.stderr
    assert victim.encode() in done.stderr
    # What was made here is right all the same, and stays.
    mine = link_digests(tmp_path / "b")
    assert mine == {name: digest for name, digest in link_digests(filled).items() if name in mine}


@pytest.mark.parametrize("poison", [one for one in POISONS if one not in UNDETECTED])
def test_what_contradicts_itself_is_never_used(
    saltflat: Saltflat,
    place: Place,
    cache: str,
    filled: Path,
    corner_layout: Path,
    tmp_path: Path,
    poison: Callable[[Place, Path], None],
) -> None:
    poison(place, filled)
    arguments = (f"oci:{corner_layout}:latest", "--cache-repo", cache, "--cache-mode", "read")
    done = convert(saltflat, tmp_path / "b", *arguments)
    assert "layer 3/5" in made(done)
    assert b"Warning: cache" in done.stderr
    assert link_digests(tmp_path / "b") == link_digests(filled)


def test_run_takes_the_cache_too(saltflat: Saltflat, cache: str, corner_layout: Path) -> None:
    done = saltflat("run", "--cache-repo", f"{cache}:tag", f"oci:{corner_layout}:latest")
    assert (done.returncode, b"--cache-repo" in done.stderr) == (125, True)


def test_a_link_under_two_codecs_is_taken_from_a_cache_that_is_a_target_too(
    saltflat: Saltflat, place: Place, cache: str, filled: Path, corner_layout: Path
) -> None:
    image = f"oci:{corner_layout}:latest"
    place.proxy.asked.clear()
    options = ("--plain-http", "--codec", "gzip", "--format", "json")
    out = saltflat.good("push", "--store", filled, *options, image, cache)
    assert {link["codec"] for link in json.loads(out)["links"]} == {"zstd"}
    # A record, and the image's two documents.
    assert place.proxy.blobs_sent() == 3


def test_links_that_others_remove_meanwhile(
    saltflat: Saltflat, place: Place, cache: str, filled: Path, corner_layout: Path, tmp_path: Path
) -> None:
    """A blob that is listed and gone costs that link and those above it, no more."""
    manifest, _ = parts(place, chain_of(filled)[1])
    gone = manifest["layers"][0]["digest"]
    place.proxy.meddle = lambda asked: Reply(404) if gone in asked.path else None
    arguments = (f"oci:{corner_layout}:latest", "--cache-repo", cache, "--cache-mode", "read")
    done = convert(saltflat, tmp_path / "b", *arguments)
    assert made(done)[0] == "layer 2/5"
    assert link_digests(tmp_path / "b") == link_digests(filled)
    shutil.rmtree(tmp_path / "b")

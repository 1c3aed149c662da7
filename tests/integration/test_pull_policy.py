"""run --pull: what is here under a name is run as it is; a registry is asked as in docker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from converter.convert_options import ConvertOptions
from converter.events import ignore
from converter.image.fetch import blob_path
from converter.image.platform import Platform
from converter.image.reference import RegistryReference, parse_source
from converter.pipeline import Chain, find_converted
from converter.store.layout import Store
from converter.store.links import ChainParameters
from converter.store.names import image_by_name
from tests.integration.conftest import Saltflat
from tests.integration.watching_proxy import WatchingProxy, watching_proxy

pytestmark = pytest.mark.integration

NAME = "pulled"
AMD64 = Platform.parse("linux/amd64")
NO_COMMAND = 127


@pytest.fixture
def proxy(registry: str) -> Iterator[WatchingProxy]:
    """Return what sees every request to the registry."""
    with watching_proxy(registry) as watching:
        yield watching


def at_hand(
    source: str, store: Path, *, platform: Platform = AMD64, journal: bool = True
) -> Chain | None:
    """Look a registry's image up in a store."""
    reference = parse_source(source)
    assert isinstance(reference, RegistryReference)
    options = ConvertOptions(ChainParameters(journal=journal))
    image = image_by_name(Store(store), reference, platform)
    return image and find_converted(image, Store(store), options, monitor=ignore)


def test_what_a_name_stands_for_is_what_it_was_last_asked_for(
    saltflat: Saltflat, push: Callable[..., str], corner_layout: Path, tmp_path: Path
) -> None:
    store, digests = tmp_path / "store", []
    for layers in (1, 2, 1):  # the tag moves, and back
        source = push(corner_layout, f"prefix-{layers}", f"{NAME}:moves")
        if digests:
            found = at_hand(source, store)
            assert found is not None
            assert str(found.image.digest) == digests[-1]  # not what the registry has by now
        saltflat.good("convert", "--store", store, "--plain-http", source)
        found = at_hand(source, store)
        assert found is not None
        digests.append(str(found.image.digest))
        assert len(found.links) == layers
    assert digests[0] == digests[2] != digests[1]
    # Another name of the same image takes nothing from this one, nor does an older image's use.
    other = push(corner_layout, "prefix-1", f"{NAME}:other")
    older = push(corner_layout, "prefix-2", f"{NAME}:older")
    for each in (other, older):
        saltflat.good("convert", "--store", store, "--plain-http", each)
    for each, digest in ((source, digests[2]), (other, digests[2]), (older, digests[1])):
        found = at_hand(each, store)
        assert found is not None
        assert str(found.image.digest) == digest
    assert at_hand(f"{source}-not", store) is None
    assert at_hand(source, store, platform=Platform.parse("linux/arm64")) is None
    assert at_hand(source, store, journal=False) is None
    names = store / "cache" / "names"
    assert len(list(names.iterdir())) == 3
    saltflat.good("store", "gc", "--store", store, "--max-store-size", "0")
    assert list(names.iterdir()) == []
    assert at_hand(source, store) is None


def test_damaged_documents_are_the_registrys_to_give_again(
    saltflat: Saltflat, push: Callable[..., str], corner_layout: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    source = push(corner_layout, "prefix-1", f"{NAME}:damaged")
    saltflat.good("convert", "--store", store, "--plain-http", source)
    found = at_hand(source, store)
    assert found is not None
    for path in (blob_path(Store(store).blobs, found.image.digest), *(store / "cache").glob("*/*")):
        path.chmod(0o644)
        path.write_bytes(b"{}")
        assert at_hand(source, store) is None
        saltflat.good("convert", "--store", store, "--plain-http", source)
        assert at_hand(source, store) is not None


def test_a_machine_of_what_is_here_asks_nobody(
    saltflat: Saltflat,
    push: Callable[..., str],
    proxy: WatchingProxy,
    corner_layout: Path,
    store: Path,
) -> None:
    push(corner_layout, "prefix-1", f"{NAME}:here")
    source = f"{proxy.host}/{NAME}:here"

    def run(*options: str, boot: str = "stock") -> tuple[int, str, int]:
        proxy.asked.clear()
        place = ("--store", store, "--plain-http", "--boot", boot)
        done = saltflat("run", "--rm", *place, *options, source, "/no-such-program")
        return done.returncode, done.stderr.decode(), len(proxy.asked)

    code, said, asked = run("--pull", "never")
    assert (code, asked) == (125, 0)
    assert f"has the name {source}" in said
    saltflat.good("convert", "--store", store, "--plain-http", source)
    code, said, asked = run()
    assert (code, asked) == (NO_COMMAND, 0), said
    code, said, asked = run("--pull", "always", "--cpus", "1000")  # which no machine has
    assert code == 125
    assert asked > 0

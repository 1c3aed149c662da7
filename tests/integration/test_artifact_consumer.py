"""A consumer that was written from docs/formats.md alone reads what we push, and QEMU reads it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.images.cache import ROOT
from tests.integration.artifact_places import KINDS, Place
from tests.integration.conftest import Saltflat

pytestmark = pytest.mark.integration

CONSUMER = ROOT / "tests" / "integration" / "chain_consumer.sh"


@pytest.mark.parametrize(("kind", "codec"), [(KINDS[0], "gzip"), (KINDS[1], "zstd")])
def test_a_chain_read_without_saltflat(
    saltflat: Saltflat,
    tool: Callable[[str], str],
    place_of: Callable[[str], Place],
    corner_layout: Path,
    tmp_path: Path,
    kind: str,
    codec: str,
) -> None:
    place = place_of(kind)
    image = place.put_image(corner_layout, "latest", "test/app:1")
    target = f"{place.host}/test/app"
    store = tmp_path / "store"
    options = ("--store", store, "--plain-http", "--capacity", "1G")
    saltflat.good("push", *options, "--codec", codec, image, target)
    saltflat.good("convert", *options, image, "-o", tmp_path / "b")
    for program in ("zstd", "gzip", "sha256sum"):
        tool(program)
    folder = tmp_path / "consumer"
    folder.mkdir()
    top = consume(place, image, folder)
    ours = json.loads((tmp_path / "b" / "bundle.json").read_bytes())["links"]
    assert [path.name for path in sorted(folder.glob("*.vmdk"))] == sorted(
        f"{link['link_id']}.vmdk" for link in ours
    )
    # QEMU sees the same disk, and the file system in it is sound.
    qemu = tool("qemu-img")
    bundle_top = tmp_path / "b" / ours[-1]["file"]
    subprocess.run([qemu, "compare", folder / top, bundle_top], check=True, timeout=60)
    raw = tmp_path / "raw"
    subprocess.run([qemu, "convert", "-O", "raw", folder / top, raw], check=True, timeout=60)
    subprocess.run([tool("e2fsck"), "-fn", raw], check=True, timeout=60)


def consume(place: Place, image: str, folder: Path) -> str:
    """Run the consumer; return the name of the topmost disk."""
    config = folder / "regctl.json"
    config.write_text(json.dumps({"hosts": {place.host: {"tls": "disabled"}}}))
    done = subprocess.run(
        [CONSUMER, image, folder],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={
            **os.environ,
            "PATH": f"{place.regctl.parent}:{os.environ['PATH']}",
            "REGCTL_CONFIG": str(config),
        },
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()

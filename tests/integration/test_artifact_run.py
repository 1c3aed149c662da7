"""A chain goes to a registry and comes back on another machine, and there it runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.artifact_places import CHAIN_TYPE, KINDS, Place
from tests.integration.conftest import Saltflat

pytestmark = [pytest.mark.integration, pytest.mark.vm]


@pytest.mark.parametrize("kind", KINDS)
def test_push_list_pull_run(
    saltflat: Saltflat,
    store: Path,
    place_of: Callable[[str], Place],
    demo_layout: Path,
    tmp_path: Path,
    kind: str,
) -> None:
    place = place_of(kind)
    image = place.put_image(demo_layout, "1", "demo/app:1")
    target = f"{place.host}/demo/app"
    one = tmp_path / "one"  # the first machine's store; `store` is the second's
    pushed = saltflat.good("push", "--store", one, "--plain-http", image, target).decode().strip()
    listed = place.ask_regctl("artifact", "list", image, home=tmp_path)
    assert pushed.partition("@")[2] in listed
    assert CHAIN_TYPE in listed
    shutil.rmtree(one)
    bundle = tmp_path / "bundle"
    saltflat.good("pull", "--store", store, "--plain-http", image, "-o", bundle)
    script = "echo from $(uname -s) with $(ls /etc/os-release); exit 7"
    done = saltflat("-q", "run", "--store", store, bundle, "sh", "-c", script)
    assert (done.returncode, done.stdout) == (7, b"from Linux with /etc/os-release\n"), done.stderr
    links = json.loads((bundle / "bundle.json").read_bytes())["links"]
    assert len(links) == 4

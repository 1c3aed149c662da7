"""`run -v` and the volume verbs as a user types them: what is kept, what goes, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.images.layout import LayoutWriter
from tests.images.tarball import TarBuilder
from tests.integration.conftest import Saltflat

pytestmark = [pytest.mark.integration, pytest.mark.vm]

APPLETS = ("cat", "echo", "ls", "mkdir", "sh", "sleep", "test")


@pytest.fixture(scope="module")
def image(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return an image that wants a volume at /var/lib/data, where it has a file."""
    folder = tmp_path_factory.mktemp("image") / "layout"
    program = Path(tool("busybox")).read_bytes()
    writer = LayoutWriter(folder)

    def base(tar: TarBuilder) -> None:
        tar.directory("bin")
        tar.file("bin/busybox", program, mode=0o755)
        for name in APPLETS:
            tar.symlink(f"bin/{name}", "busybox")
        tar.directory("var/lib/data", mode=0o750)
        tar.file("var/lib/data/first", b"from the image\n")

    writer.layer(base, comment="busybox and some data")
    writer.finish(config={"Env": ["PATH=/bin"], "Volumes": {"/var/lib/data": {}, "/cache": {}}})
    return f"oci:{folder}:latest"


@pytest.mark.timeout(600)
def test_what_is_kept_and_what_goes(
    saltflat: Saltflat, image: str, store: Path, tmp_path: Path
) -> None:
    places = ["--store", store, "--state", tmp_path / "state"]
    state = ["--state", tmp_path / "state"]

    def run(*arguments: str) -> str:
        return saltflat.good("run", *places, *arguments, timeout_seconds=250).decode()

    def listed(*arguments: str) -> list[str]:
        return saltflat.good("volume", "ls", "-q", *state, *arguments).decode().split()

    said = run(
        *("--rm", "-v", "data:/var/lib/data", "--mount", "src=big,dst=/big,volume-opt=size=20G"),
        *(image, "sh", "-c", "echo second > /var/lib/data/second; ls /var/lib/data /cache"),
    )
    assert said == "/cache:\n\n/var/lib/data:\nfirst\nsecond\n"
    assert listed() == ["big", "data"]  # the one for /cache went with its machine
    inspected = json.loads(saltflat.good("volume", "inspect", *state, "big"))
    assert inspected["volumes"][0]["size"] == 20 << 30
    assert inspected["volumes"][0]["users"] == []
    # Another machine has what the first one left; without --rm it stays, and its volumes with it.
    said = run(
        *("--name", "reader", "-v", "data:/var/lib/data:ro"),
        *(image, "sh", "-c", "cat /var/lib/data/*; echo x > /var/lib/data/third; exit 0"),
    )
    assert said == "from the image\nsecond\n"
    (unnamed,) = set(listed()) - {"big", "data"}
    assert listed("--filter", "dangling=true") == ["big"]
    assert set(listed("--filter", "dangling=false")) == {"data", unnamed}
    table = saltflat.good("volume", "ls", *state).decode()
    assert [line.split()[-1] for line in table.splitlines()[1:]].count("reader") == 2
    refused = saltflat("volume", "rm", *state, "data")
    assert refused.returncode == 2
    assert b"in use by reader" in refused.stderr
    assert b"saltflat rm reader" in refused.stderr
    saltflat.good("rm", "-v", *state, "reader")
    assert listed() == ["big", "data"]
    assert saltflat.good("volume", "rm", *state, "data", "big") == b"data\nbig\n"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("-v", "/srv:/srv"), "names a folder of this host"),
        (("--mount", "type=bind,src=/srv,dst=/srv"), "is a folder of this host"),
        (("-v", "data:/a", "-v", "other:/a"), "Two volumes"),
        (("-v", "data:a"), "not an absolute path"),
    ],
)
def test_what_is_refused_before_anything_is_made(
    saltflat: Saltflat, image: str, tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    places = ["--store", tmp_path / "store", "--state", tmp_path / "state"]
    done = saltflat("run", *places, *options, image, "true")
    assert done.returncode == 125
    assert says in done.stderr.decode()
    assert not (tmp_path / "state/volumes").exists()
    assert not (tmp_path / "store").exists()


def test_create_and_remove(saltflat: Saltflat, tmp_path: Path) -> None:
    state = ["--state", tmp_path / "state"]
    assert saltflat.good("volume", "create", *state, "--label", "a=b", "data") == b"data\n"
    unnamed = saltflat.good("volume", "create", *state, "--size", "1G").decode().strip()
    assert len(unnamed) == 64
    listed = json.loads(saltflat.good("volume", "ls", *state, "--format", "json"))["volumes"]
    assert {volume["name"]: volume["size"] for volume in listed} == {
        "data": 10 << 30,
        unnamed: 1 << 30,
    }
    for filters, names in (
        (("label=a",), ["data"]),
        (("label=a=c",), []),
        (("name=at", "name=zz"), ["data"]),
        (("dangling=false",), []),
    ):
        given = [word for text in filters for word in ("--filter", text)]
        assert saltflat.good("volume", "ls", "-q", *state, *given).decode().split() == names
    assert saltflat("volume", "ls", *state, "--filter", "dangling=maybe").returncode == 2
    assert saltflat("volume", "create", *state, "--size", "2G", unnamed).returncode == 2
    assert saltflat.good("volume", "prune", "-f", *state).decode().split() == [unnamed]
    assert saltflat("volume", "prune", *state).returncode == 130  # nobody says yes
    done = saltflat("volume", "rm", *state, "nothing", "data")
    assert (done.returncode, done.stdout) == (1, b"data\n")
    assert b"no volume nothing" in done.stderr
    assert saltflat("volume", "rm", *state, "data").returncode == 3
    assert saltflat("volume", "rm", "-f", *state, "data").returncode == 0
    assert saltflat("volume", "inspect", *state, "data").returncode == 3

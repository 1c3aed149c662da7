"""`saltflat export`: every type is the same disk, twice the same bytes, whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from converter.cli import main
from converter.image.c_oci import OCI_MANIFEST
from converter.vmdk.chain import open_chain
from converter.vmdk.hosted import SparseExtent
from tests.guests.vmx_text import read_vmx
from tests.images import small
from tests.images.prepared import SALTFLAT
from tests.integration.conftest import Saltflat

pytestmark = pytest.mark.integration

CAPACITY = 96 << 20  # three tables of grains
DISSECTED = Path(__file__).with_name("dissected.py")
# Tells on standard output that a disk is written and not yet whole, and waits to be killed.
HELD = """
import signal, sys
from converter.cli.output import Output
from converter.events import StepFinished

def hold(_output, event):
    if isinstance(event, StepFinished) and event.step == sys.argv[-1].rpartition("/")[2]:
        sys.stdout.write("held")
        sys.stdout.flush()
        signal.pause()

Output.monitor = hold
from converter.cli import main
from converter.image.c_oci import OCI_MANIFEST
main()
"""


@pytest.fixture(scope="module")
def bundle(
    saltflat: Saltflat, tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a bundle of the small image, beside its layout and the store that has it."""
    tool("busybox")
    work = tmp_path_factory.mktemp("export")
    small.build(work / "layout")
    saltflat.good(
        *("convert", "--store", work / "store", "--capacity", str(CAPACITY)),
        *(f"oci:{work / 'layout'}:latest", "-o", work / "bundle"),
    )
    return work / "bundle"


Export = Callable[..., tuple[int, str, str]]


@pytest.fixture
def export(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Export:
    """Return export(*arguments): the command in this process, on the bundle, with its store.

    It returns the exit code, standard output and standard error. `source` may be another one.
    """

    def run(*arguments: str | Path, source: str | Path = bundle) -> tuple[int, str, str]:
        command = ["export", source, "--store", bundle.parent / "store", *arguments]
        monkeypatch.setattr(sys, "argv", ["saltflat", *map(os.fspath, command)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capsys.readouterr()

    return run


def top_of(bundle: Path) -> Path:
    """Return the bundle's topmost link."""
    return bundle / json.loads((bundle / "bundle.json").read_bytes())["links"][-1]["file"]


def digests(folder: Path) -> dict[str, str]:
    """Return name -> SHA-256 of each file in `folder`."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def dissected(paths: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of each disk as dissect reads it."""
    command = [sys.executable, "-W", "ignore", DISSECTED, *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    return done.stdout.splitlines()


def content_of(top: Path) -> str:
    """Return the SHA-256 of a disk as we read it."""
    with open_chain(top) as chain:
        return hashlib.sha256(chain.read(0, chain.capacity_bytes)).hexdigest()


def test_each_type_is_the_same_disk_and_twice_the_same_bytes(
    export: Export,
    bundle: Path,
    tool: Callable[[str], str],
    tmp_path: Path,
) -> None:
    qemu_img = tool("qemu-img")
    top = top_of(bundle)
    made = {}
    for kind in ("stream", "flat", "sparse"):
        folders = [tmp_path / f"{kind}-{number}" for number in range(2)]
        for folder in folders:
            code, told, log = export("--type", kind, "-o", folder / "disk.vmdk", "--format=json")
            assert code == 0, log
        assert digests(folders[0]) == digests(folders[1])
        listed = json.loads(told)["files"]
        files = {Path(file["file"]).name: file["size"] for file in listed}
        assert files == {path.name: path.stat().st_size for path in folders[1].iterdir()}
        made[kind] = folders[0] / "disk.vmdk"
        command = [qemu_img, "compare", "-f", "vmdk", "-F", "vmdk", top, made[kind]]
        assert b"identical" in subprocess.check_output(command, timeout=60)
        subprocess.run([qemu_img, "check", made[kind]], check=True, timeout=60, capture_output=True)
    assert set(dissected(list(made.values()))) == {content_of(top)}
    extent = made["flat"].with_name("disk-flat.vmdk").stat()
    assert extent.st_size == CAPACITY
    assert extent.st_blocks * 512 < CAPACITY / 8
    statement = json.loads(made["stream"].with_name("disk.provenance.json").read_bytes())
    sha256 = hashlib.sha256(made["stream"].read_bytes()).hexdigest()
    assert statement["subject"] == [{"name": "disk.vmdk", "digest": {"sha256": sha256}}]
    codec = statement["predicate"]["buildDefinition"]["externalParameters"]["codec"]
    assert set(codec) == {"library", "version", "level"}
    assert not made["flat"].with_name("disk.provenance.json").exists()


def test_standard_output_gets_the_bytes_of_the_file(
    saltflat: Saltflat, bundle: Path, export: Export, tmp_path: Path
) -> None:
    options = ("--type=stream", "--codec=zlib", "--compression-level=1", "--no-provenance", "-o")
    piped = saltflat.good("export", bundle, "--store", bundle.parent / "store", *options, "-")
    assert export(*options, tmp_path / "stream.vmdk")[0] == 0
    assert (tmp_path / "stream.vmdk").read_bytes() == piped
    assert [path.name for path in tmp_path.iterdir()] == ["stream.vmdk"]


def refer(layout: Path, content: bytes, media_type: str) -> None:
    """Let an artifact with this content refer to the latest image of a layout."""

    def blob(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (layout / "blobs" / "sha256" / digest).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    index = json.loads((layout / "index.json").read_bytes())
    tagged = {
        entry["annotations"]["org.opencontainers.image.ref.name"]: entry
        for entry in index["manifests"]
    }
    image = tagged["latest"]
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": blob(b"{}", "application/vnd.oci.empty.v1+json"),
        "layers": [blob(content, media_type)],
        "subject": {name: image[name] for name in ("mediaType", "digest", "size")},
    }
    index["manifests"].append(blob(json.dumps(manifest).encode(), OCI_MANIFEST))
    (layout / "index.json").write_text(json.dumps(index))


def test_an_images_own_bill_of_materials_lies_beside_the_disk(
    export: Export, bundle: Path, tmp_path: Path
) -> None:
    """Of an image that the command converts itself; the bundle of it exports the same disk."""
    bill = b'{ "spdxVersion": "SPDX-2.3" }\r\n'
    layout = tmp_path / "layout"
    shutil.copytree(bundle.parent / "layout", layout)
    refer(layout, bill, "application/spdx+json")
    made = {}
    for name, source, option in (
        ("image", f"oci:{layout}:latest", "--sbom"),
        ("plain", f"oci:{layout}:latest", "--no-sbom"),
        ("bundle", bundle, "--sbom"),
    ):
        out = tmp_path / name / "disk.vmdk"
        arguments = ("--type=stream", f"--capacity={CAPACITY}", option, "-o", out)
        code, _, log = export(*arguments, source=source)
        assert code == 0, log
        made[name] = digests(out.parent)
    assert made["image"].pop("disk.spdx.json") == hashlib.sha256(bill).hexdigest()
    assert made["image"] == made["plain"]
    assert made["image"]["disk.vmdk"] == made["bundle"]["disk.vmdk"]
    assert set(made["bundle"]) == {"disk.vmdk", "disk.provenance.json"}


def test_qemu_writes_to_a_sparse_disk(
    export: Export, tool: Callable[[str], str], tmp_path: Path
) -> None:
    """Where no grain was, in the last table."""
    disk = tmp_path / "disk.vmdk"
    assert export("--type=sparse", "-o", disk)[0] == 0
    asked = ["write -P 7 -q 95m 64k", "read -P 7 95m 64k", "read -P 0 94m 64k"]
    commands = [word for command in asked for word in ("-c", command)]
    told = subprocess.check_output([tool("qemu-io"), *commands, disk], timeout=60)
    assert b"failed" not in told
    subprocess.run([tool("qemu-img"), "check", disk], check=True, timeout=60, capture_output=True)


def test_a_folder_for_desktops_has_the_whole_chain(
    export: Export,
    bundle: Path,
    boot_media_store: Path,
    tool: Callable[[str], str],
    tmp_path: Path,
) -> None:
    for number in range(2):
        out = tmp_path / str(number) / "web"
        code, _, log = export("--type=vmx", "--store", boot_media_store, "-o", out, "--serial-log")
        assert code == 0, log
    folder = tmp_path / "0" / "web"
    assert digests(folder) == digests(tmp_path / "1" / "web")
    said = read_vmx((folder / "web.vmx").read_bytes())
    named = {said[f"{device}.fileName"] for device in ("scsi0:0", "sata0:0")}
    assert named == {"web.vmdk", "web-boot.iso"}
    assert named < {path.name for path in folder.iterdir()}
    document = said["guestinfo.ovfEnv"]
    assert "key&quot;" not in document  # but for the property's own name
    disk = folder / "web.vmdk"
    with open_chain(disk) as chain:
        assert len(chain.links) == len(list((bundle / "disk").iterdir())) + 1
        for link in chain.links:
            (extent,) = link.extents
            assert isinstance(extent, SparseExtent)
            assert 0 not in extent.directory
            assert 0 not in extent.read_directory(extent.header.rgdOffset)
        assert not any(piece.kind.name == "DATA" for piece in chain.links[-1].pieces(0, CAPACITY))
    compare = [tool("qemu-img"), "compare", "-f", "vmdk", "-F", "vmdk", top_of(bundle), disk]
    assert b"identical" in subprocess.check_output(compare, timeout=60)
    assert dissected([disk]) == [content_of(top_of(bundle))]
    before = digests(folder)
    write = [tool("qemu-io"), "-c", "write -P 7 -q 0 64k", "-c", "write -P 7 -q 95m 1k", disk]
    subprocess.run(write, check=True, timeout=60)
    assert {name for name, digest in digests(folder).items() if digest != before[name]} == {
        "web.vmdk"
    }


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--type=stream", "-o", "there.vmdk"], 2, "exists"),
        (["--type=flat", "-o", "-"], 2, "one of the types stream"),
        (["--type=stream", "-o", "a.vmdk", "--memory=1g"], 2, "--memory says nothing of a disk"),
        (["--type=stream", "-o", 'a"b.vmdk'], 2, "cannot be a disk's name"),
        (["--type=stream", "-o", "."], 2, "cannot be a disk's name"),
        (["--type=stream", "-o", "a", "--codec=zlib", "--compression-level=0"], 2, "1 to 9"),
        (["--type=vmx", "-o", "web", "--serial=tcp:1"], 2, "no end for a serial line"),
        (["--type=vmx", "-o", "web", "--key-file=there.vmdk"], 2, "64 hexadecimal digits"),
        (["--type=vmx", "-o", "there.vmdk", "--force"], 2, "no folder that an export made"),
        (["--type=stream", "-o", "there.vmdk/a"], 1, "cannot be written"),
    ],
)
def test_what_cannot_be_is_an_error_and_leaves_nothing(
    export: Export,
    arguments: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "there.vmdk").write_bytes(b"somebody's")
    monkeypatch.chdir(tmp_path)
    ended, _, told = export(*arguments)
    assert (ended, said in told) == (code, True), told
    assert digests(tmp_path).keys() == {"there.vmdk"}
    assert (tmp_path / "there.vmdk").read_bytes() == b"somebody's"


def test_a_full_disk_and_a_damaged_link_leave_nothing(
    saltflat: Saltflat, bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "disk.vmdk"
    command = [*SALTFLAT, "export", bundle, "--store", tmp_path / "store", "--type=flat", "-o", out]
    done = subprocess.run(
        command,
        capture_output=True,
        timeout=100,
        env=saltflat.whole_environment,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
        check=False,
    )
    assert done.returncode == 1
    assert b"There is no room for" in done.stderr
    assert not list(out.parent.iterdir())
    hurt = tmp_path / "hurt"
    subprocess.run(["cp", "-r", bundle, hurt], check=True)
    top = top_of(hurt)
    top.chmod(0o600)
    with top.open("r+b") as file:
        file.seek(-512, os.SEEK_END)  # the grain directory
        file.write(b"\xff" * 512)
    done = saltflat("export", hurt, "--store", tmp_path / "store", "--type=sparse", "-o", out)
    assert done.returncode == 5, done.stderr
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_killed_export_leaves_no_output(
    number: signal.Signals, saltflat: Saltflat, bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "disk.vmdk"
    command = [sys.executable, "-c", HELD, "export", bundle, "--store", bundle.parent / "store"]
    with subprocess.Popen(
        [*command, "--type=stream", "-o", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=saltflat.whole_environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(4) == b"held"
        (temp,) = tmp_path.iterdir()
        assert (temp / out.name).stat().st_size > 1 << 20
        process.send_signal(number)
        code = process.wait(60)
    assert code == (-signal.SIGKILL if number is signal.SIGKILL else 130)
    assert not out.exists()
    assert list(tmp_path.iterdir()) == ([temp] if number is signal.SIGKILL else [])

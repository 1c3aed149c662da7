"""Exported packages: their files, as tar, openssl and qemu-img have them, a vCenter, and a boot.

The vCenter is govmomi's simulator: it reads descriptors with VMware's own library, and keeps of
what is uploaded a hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from converter.errors import NotFoundError, SaltflatError, UsageError
from converter.package.signing import load_signer
from tests.guests import packaged
from tests.guests.host import BOOT_SECONDS
from tests.images.layout import LayoutWriter
from tests.images.tarball import TarBuilder
from tests.integration.conftest import Saltflat
from tests.unit.package.deployment import environment, properties
from tests.unit.package.ovf_rules import SERIAL_PORT, faults

pytestmark = pytest.mark.integration

KEY = bytes(range(32))
SCRIPT = 'echo "$GREETING, $WHO"; cat /etc/motd /sys/class/net/eth0/address; test ! -e /srv/gone'
CONFIG = {
    "Entrypoint": ["/bin/sh", "-c", SCRIPT],
    "Env": ["PATH=/bin", "GREETING=hello", "WHO=nobody"],
}


@dataclass(frozen=True)
class Packages:
    """The same image as an OVA with a disk for each link, signed, and as a folder with one disk."""

    store: Path
    image: str
    ova: Path
    folder: Path
    certificate: Path
    key: Path
    signing: tuple[str, ...]

    def members(self, work: Path) -> list[Path]:
        """Unpack the OVA by a program that is not ours; return the files in its order."""
        listed = subprocess.run(
            ["bsdtar", "-tf", self.ova], check=True, capture_output=True, text=True
        ).stdout.split()
        subprocess.run(["bsdtar", "-xf", self.ova, "-C", work], check=True)
        return [work / name for name in listed]


@pytest.fixture(scope="module")
def packages(
    boot_media_store: Path,
    saltflat: Saltflat,
    tool: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Packages:
    for name in ("openssl", "bsdtar", "qemu-img"):
        tool(name)
    work = tmp_path_factory.mktemp("packages")
    busybox = Path(tool("busybox")).read_bytes()
    store, image = work / "store", f"oci:{write_layout(work / 'layout', busybox)}:latest"
    shutil.copytree(boot_media_store, store, copy_function=os.link)
    key, certificate = work / "key.pem", work / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=packages", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    (work / "secret").write_text(KEY.hex())
    made = Packages(
        store=store,
        image=image,
        ova=work / "web.ova",
        folder=work / "web",
        certificate=certificate,
        key=key,
        signing=("--delta", f"--sign={key}", f"--cert={certificate}"),
    )
    common = ["--store", store, f"--key-file={work / 'secret'}", "--serial-log"]
    saltflat.good("export", image, "--type=ova", "-o", made.ova, *made.signing, *common)
    saltflat.good("export", image, "--type=ovf", "-o", made.folder, *common)
    return made


def write_layout(folder: Path, busybox: bytes) -> Path:
    def base(tar: TarBuilder) -> None:
        for name in ("bin", "etc", "srv", "proc", "sys", "dev", "tmp"):
            tar.directory(name)
        tar.file("bin/busybox", busybox, mode=0o755)
        for name in ("sh", "cat", "test", "echo"):
            tar.symlink(f"bin/{name}", "busybox")
        tar.file("srv/gone", b"of the base")

    def more(tar: TarBuilder) -> None:
        tar.file("etc/motd", b"of the second layer\n")

    def less(tar: TarBuilder) -> None:
        tar.file("srv/.wh.gone", b"")

    writer = LayoutWriter(folder)
    for write in (base, more, less):
        writer.layer(write, comment=write.__name__)
    writer.finish(config=CONFIG)
    return folder


def test_the_files_of_an_ova(packages: Packages, tmp_path: Path) -> None:
    files = packages.members(tmp_path)
    assert [path.name for path in files] == [
        *("web.ovf", "web.mf", "web.cert"),
        *("web-disk1.vmdk", "web-disk2.vmdk", "web-disk3.vmdk"),
        *("web-boot.iso", "web.provenance.json"),
    ]
    with tarfile.open(packages.ova) as archive:
        owners = {(one.uid, one.gid, one.mtime, one.mode, one.uname) for one in archive}
    assert owners == {(0, 0, 0, 0o644, "")}
    assert packages.ova.stat().st_mode & 0o777 == 0o600  # there is a key in it
    descriptor = files[0].read_bytes()
    assert faults(descriptor) == []
    check_manifest(tmp_path / "web.mf", [files[0], *files[3:]])
    sizes = re.findall(r'ovf:href="(.+?)" ovf:size="(\d+)"', descriptor.decode())
    assert [(path.name, str(path.stat().st_size)) for path in files[3:]] == sizes
    statement = json.loads((tmp_path / "web.provenance.json").read_bytes())
    subjects = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
    assert subjects == {path.name: sha256(path) for path in files[3:6]}


def test_the_signature_is_of_the_manifest(packages: Packages, tmp_path: Path) -> None:
    packages.members(tmp_path)
    line, _, certificate = (tmp_path / "web.cert").read_text().partition("\n")
    name, _, signature = line.partition("= ")
    assert name == "SHA256(web.mf)"
    (tmp_path / "signature").write_bytes(bytes.fromhex(signature))
    assert certificate == packages.certificate.read_text()
    public = subprocess.run(
        ["openssl", "x509", "-noout", "-pubkey", "-in", tmp_path / "web.cert"],
        check=True,
        capture_output=True,
    ).stdout
    (tmp_path / "public").write_bytes(public)
    command = ["openssl", "dgst", "-sha256", "-verify", tmp_path / "public"]
    command += ["-signature", tmp_path / "signature", tmp_path / "web.mf"]
    assert subprocess.run(command, check=False).returncode == 0


def test_a_folder_with_one_disk_that_is_the_chain_of_the_other(
    packages: Packages, tmp_path: Path
) -> None:
    names = sorted(path.name for path in packages.folder.iterdir())
    assert names == [
        *("web-boot.iso", "web-disk1.vmdk", "web.mf", "web.ovf", "web.provenance.json")
    ]
    assert faults((packages.folder / "web.ovf").read_bytes()) == []
    files = ("web.ovf", "web-disk1.vmdk", "web-boot.iso", "web.provenance.json")
    check_manifest(packages.folder / "web.mf", [packages.folder / name for name in files])
    packages.members(tmp_path)
    assert (packages.folder / "web.ovf").stat().st_mode & 0o777 == 0o600  # there is a key in it
    top, whole = tmp_path / "web-disk3.vmdk", packages.folder / "web-disk1.vmdk"
    subprocess.run(["qemu-img", "compare", top, whole], check=True, capture_output=True)
    assert (tmp_path / "web-disk3.vmdk").stat().st_size < whole.stat().st_size // 4


def test_the_same_bytes_once_more(packages: Packages, saltflat: Saltflat, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(KEY.hex())
    again = tmp_path / "web.ova"
    saltflat.afresh(
        *("export", packages.image, "--type=ova", "-o", again, *packages.signing),
        *("--store", packages.store, f"--key-file={tmp_path / 'secret'}", "--serial-log"),
    )
    assert sha256(again) == sha256(packages.ova)


def test_a_disk_to_start_from(packages: Packages, saltflat: Saltflat, tmp_path: Path) -> None:
    saltflat.good(
        *("export", packages.image, "--type=ovf", "-o", tmp_path / "db", "--store", packages.store),
        *("--boot-medium=disk", "--no-provenance"),
    )
    descriptor = (tmp_path / "db" / "db.ovf").read_bytes()
    assert faults(descriptor) == []
    files = [tmp_path / "db" / name for name in ("db-boot.vmdk", "db-disk1.vmdk")]
    check_manifest(tmp_path / "db" / "db.mf", [tmp_path / "db" / "db.ovf", *files])
    drives = re.findall(rb"<rasd:AddressOnParent>(.)<.*?>\n.*?\n.*HostResource>(.+?)<", descriptor)
    assert drives[:2] == [(b"0", b"ovf:/disk/vmdisk1"), (b"1", b"ovf:/disk/vmdisk2")]
    assert b"vmware.cdrom" not in descriptor
    (medium,) = packages.store.glob("boot/*/media/*stream*")
    assert sha256(files[0]) == sha256(medium)
    said = subprocess.run(
        ["qemu-img", "info", "--output=json", medium], check=True, capture_output=True
    ).stdout
    capacity = re.search(rb'fileRef="file1" ovf:capacity="(\d+)"', descriptor)
    assert capacity is not None
    assert int(capacity[1]) == json.loads(said)["virtual-size"]


def test_who_cannot_sign(packages: Packages, saltflat: Saltflat, tmp_path: Path) -> None:
    key, certificate = packages.key, packages.certificate
    other = tmp_path / "other.pem"
    subprocess.run(["openssl", "genrsa", "-out", other, "2048"], check=True, capture_output=True)
    curve = tmp_path / "curve.pem"
    command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", curve]
    subprocess.run(command, check=True)
    for signing, exception, said in (
        ((tmp_path / "no.pem", None), NotFoundError, "There is no file"),
        ((key, None), UsageError, "holds no certificate"),
        ((other, certificate), UsageError, "is not that of the key"),
        ((curve, certificate), SaltflatError, "openssl rsa failed"),
    ):
        with pytest.raises(exception, match=said):
            load_signer(*signing)
    both = tmp_path / "both.pem"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    assert load_signer(both, None).certificates == certificate.read_bytes()
    out = tmp_path / "out.ova"
    done = saltflat(
        *("export", packages.image, "--type=ova", "-o", out, "--store", packages.store),
        *(f"--sign={other}", f"--cert={certificate}"),
    )
    assert (done.returncode, out.exists()) == (2, False), done.stderr.decode()


@pytest.fixture
def vcenter(go_tools: Path) -> Iterator[Any]:
    """Yield a session with a simulated vCenter that has one host."""
    connect = pytest.importorskip("pyVim.connect")
    with subprocess.Popen([go_tools / "vcsim"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            host, _, port = server.stdout.readline().strip().rpartition(":")
            session = connect.SmartConnect(
                protocol="http", host=host, port=int(port), user="user", pwd="pass"
            )
            yield session
            connect.Disconnect(session)
        finally:
            server.terminate()


def test_a_vcenter_takes_it(packages: Packages, vcenter: Any) -> None:
    vim = pytest.importorskip("pyVmomi").vim
    content = vcenter.RetrieveContent()
    center = content.rootFolder.childEntity[0]
    pool = center.hostFolder.childEntity[0].resourcePool
    mapping = [vim.KeyValue(key="env.WHO", value="the vCenter")]
    parameters = vim.OvfManager.CreateImportSpecParams(entityName="web", propertyMapping=mapping)
    descriptor = (packages.folder / "web.ovf").read_text()
    made = content.ovfManager.CreateImportSpec(
        descriptor, pool, center.datastoreFolder.childEntity[0], parameters
    )
    # The simulator has no serial ports; whoever imports may do without them, as it says.
    assert {fault.deviceType for fault in made.error} == {int(SERIAL_PORT)}
    lease = pool.ImportVApp(made.importSpec, center.vmFolder)
    deadline = time.monotonic() + 20
    while lease.state == vim.HttpNfcLease.State.initializing and time.monotonic() < deadline:
        time.sleep(0.02)
    assert lease.state == vim.HttpNfcLease.State.ready, lease.error
    machine = lease.info.entity
    uploaded = {}
    for item, url in zip(made.fileItem, lease.info.deviceUrl, strict=True):
        data = (packages.folder / item.path).read_bytes()
        assert len(data) == item.size
        address = url.url.replace("*", re.sub(r":\d+$", "", vcenter._stub.host))
        urllib.request.urlopen(urllib.request.Request(address, data, method="POST"), timeout=60)
        uploaded[hashlib.sha1(data).hexdigest()] = len(data)
    assert sorted(item.path for item in made.fileItem) == ["web-boot.iso", "web-disk1.vmdk"]
    kept = {entry.sha1: entry.size for entry in lease.HttpNfcLeaseGetManifest()}
    assert kept == uploaded
    lease.HttpNfcLeaseComplete()
    config = machine.config
    kinds = [type(device).__name__.rpartition(".")[2] for device in config.hardware.device]
    for kind in ("ParaVirtualSCSIController", "VirtualVmxnet3", "VirtualDisk", "VirtualCdrom"):
        assert kinds.count(kind) == 1, kinds
    (disk,) = (one for one in config.hardware.device if isinstance(one, vim.vm.device.VirtualDisk))
    assert disk.capacityInBytes == 16 << 30
    assert (config.hardware.memoryMB, config.hardware.numCPU) == (512, 1)
    assert (config.version, config.guestId) == ("vmx-13", "other3xLinux64Guest")
    values = {
        f"{one.classId}.{one.id}": one.value or one.defaultValue or ""
        for one in config.vAppConfig.property
    }
    assert values == properties(descriptor.encode(), {"env.WHO": "the vCenter"})


@pytest.mark.vm
def test_a_package_boots_as_it_was_deployed(packages: Packages, tmp_path: Path) -> None:
    packages.members(tmp_path)
    chosen = {"env.WHO": "world & <all>"}
    values = properties((tmp_path / "web.ovf").read_bytes(), chosen)
    with packaged.deployed(
        tmp_path,
        disk=tmp_path / "web-disk3.vmdk",
        boot_iso=tmp_path / "web-boot.iso",
        environment=environment(values, [packaged.ADDRESS]),
        key=KEY,
    ) as host:
        main = host.processes[0]
        host.wait(lambda: main.code is not None, BOOT_SECONDS)
    said = f"hello, world & <all>\nof the second layer\n{packaged.ADDRESS}\n"
    assert (main.code, main.stdout.decode()) == (0, said), main.messages


def check_manifest(manifest: Path, files: list[Path]) -> None:
    """Hold a manifest to the files, in the order of the package."""
    expected = "".join(f"SHA256({path.name})= {sha256(path)}\n" for path in files)
    assert manifest.read_text() == expected


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

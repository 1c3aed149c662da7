"""The ways to a registry: proxies, mirrors, one download for several processes, little memory."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from converter.errors import NotFoundError, UnavailableError
from converter.events import Event, Note, ignore
from converter.image.fetch import fetch_blob
from converter.image.model import Image
from converter.image.partial import PARTIAL_PREFIX
from converter.image.platform import Platform
from converter.image.reference import RegistryReference, parse_source
from converter.image.source import SourceOptions, open_source
from converter.registry.options import Mirror
from converter.registry.pace import Pace
from tests.images.cache import ROOT, cache_folder, cached, fingerprint
from tests.images.layout import LayoutWriter
from tests.images.tarball import TarBuilder, noise
from tests.integration.conftest import Saltflat
from tests.integration.fault_proxy import Exchange, Fault, FaultProxy, Kind, fault_proxy
from tests.integration.forward_proxy import ForwardProxy, forward_proxy
from tests.integration.registry_server import (
    PASSWORD,
    USER,
    RegistryServer,
    htpasswd,
    make_certificate,
    registry_server,
)

pytestmark = pytest.mark.integration

AMD64 = Platform("linux", "amd64")
QUICK = Pace(0.001, 0.01, 0.01)
LARGE_BYTES, SMALL_BYTES = 100 << 20, 2 << 20
# A fetch may take this much more for a blob that is 50 times as large.
MEMORY_TOLERANCE_BYTES = 8_000_000
Tool = Callable[[str], str]
_FETCH = """
import atexit, sys
from pathlib import Path
atexit.register(lambda: sys.stderr.write(Path("/proc/self/status").read_text()))
from converter.events import ignore
from converter.image.fetch import fetch_blob
from converter.image.platform import Platform
from converter.image.reference import parse_source
from converter.image.source import SourceOptions, open_source
with open_source(parse_source(sys.argv[1]), SourceOptions(plain_http=True)) as source:
    image = source.resolve(Platform("linux", "amd64"))
    print("resolved", flush=True)
    for layer in image.layers:
        fetch_blob(source, layer.descriptor, Path(sys.argv[2]), ignore)
"""


def _large(tar: TarBuilder) -> None:
    tar.file("noise", noise("a large blob", LARGE_BYTES))


def _small(tar: TarBuilder) -> None:
    tar.file("noise", noise("a small blob", SMALL_BYTES))


def _build(folder: Path) -> None:
    for name, write in (("large", _large), ("small", _small)):
        layout = LayoutWriter(folder / name)
        layout.layer(write, comment=name)
        layout.finish(config={})


@pytest.fixture(scope="module")
def layouts() -> Path:
    key = fingerprint(
        [ROOT / "tests/images/layout.py", ROOT / "tests/images/tarball.py"], str(LARGE_BYTES)
    )
    return cached(cache_folder(), "blobs", key, _build)


def _push(skopeo: str, layout: Path, server: RegistryServer, name: str, *options: str) -> None:
    command = [skopeo, "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", *options]
    target = f"docker://{server.host}/{name}"
    subprocess.run([*command, f"oci:{layout}:latest", target], check=True, timeout=100)


@pytest.fixture(scope="module")
def registry(
    tool: Tool, tmp_path_factory: pytest.TempPathFactory, layouts: Path
) -> Iterator[RegistryServer]:
    with registry_server(tool("docker-registry"), tmp_path_factory.mktemp("registry")) as server:
        for name in ("small", "large"):
            _push(tool("skopeo"), layouts / name, server, f"team/{name}:1")
        _push(tool("skopeo"), layouts / "small", server, "cache/team/small:1")
        yield server


@pytest.fixture
def proxy(registry: RegistryServer) -> Iterator[FaultProxy]:
    with fault_proxy(registry.host) as server:
        yield server


@pytest.fixture(autouse=True)
def _no_proxy_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def forward() -> Iterator[ForwardProxy]:
    with forward_proxy() as server:
        yield server


def pull(
    host: str, name: str, folder: Path, monitor: Callable[[Event], None] = ignore, **options: object
) -> Image:
    values = {"plain_http": True, "retries": 1, "pace": QUICK, **options}
    reference = parse_source(f"{host}/{name}:1")
    assert isinstance(reference, RegistryReference)
    with open_source(reference, SourceOptions(**values)) as source:
        image = source.resolve(AMD64)
        for layer in image.layers:
            path = fetch_blob(source, layer.descriptor, folder, monitor)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            assert digest == layer.descriptor.digest.encoded == path.name
        return image


# Proxies.


def test_http_through_a_proxy(
    registry: RegistryServer, forward: ForwardProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", forward.url)
    pull(registry.host, "team/small", tmp_path / "a")
    assert set(forward.targets) == {("GET", registry.host)}
    assert len(forward.targets) == 3  # manifest, configuration, layer
    forward.targets.clear()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    pull(registry.host, "team/small", tmp_path / "b")
    assert forward.targets == []


def test_https_through_a_proxy(
    forward: ForwardProxy,
    tool: Tool,
    tmp_path: Path,
    layouts: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    certificate = make_certificate(tool("openssl"), tmp_path / "tls")
    auth = htpasswd(tmp_path / "users")
    entry = _authfile(tmp_path)
    program, folder = tool("docker-registry"), tmp_path / "registry"
    with registry_server(program, folder, certificate=certificate, auth=auth) as server:
        name = "team/small:1"
        _push(tool("skopeo"), layouts / "small", server, name, f"--dest-creds={USER}:{PASSWORD}")
        authfile = entry(server.host)
        options = {"plain_http": False, "ca_file": certificate.authority, "authfile": authfile}
        monkeypatch.setenv("HTTPS_PROXY", forward.url)
        pull(server.host, "team/small", tmp_path / "a", **options)
        assert set(forward.targets) == {("CONNECT", server.host)}
        assert not [headers for headers in forward.headers if "Authorization" in headers]
        forward.targets.clear()
        with pytest.raises(UnavailableError, match="cannot be verified"):
            pull(server.host, "team/small", tmp_path / "b", plain_http=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        forward.targets.clear()
        pull(server.host, "team/small", tmp_path / "c", **options)
        assert forward.targets == []


def _authfile(folder: Path) -> Callable[[str], Path]:
    def write(host: str) -> Path:
        file = folder / "auth.json"
        file.write_text(json.dumps({"auths": {host: {"username": USER, "password": PASSWORD}}}))
        return file

    return write


def test_a_proxy_where_nobody_listens(
    registry: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with forward_proxy() as gone:
        pass
    monkeypatch.setenv("HTTP_PROXY", gone.url)
    with pytest.raises(UnavailableError, match="proxy"):
        pull(registry.host, "team/small", tmp_path)


# Mirrors.


def test_a_mirror_is_asked_first(
    registry: RegistryServer, proxy: FaultProxy, tmp_path: Path
) -> None:
    image = pull("registry.invalid", "team/small", tmp_path, mirrors=(Mirror(proxy.host),))
    assert image.reference == "registry.invalid/team/small:1"
    assert len(proxy.exchanges) == 3
    proxy.exchanges.clear()
    prefixed = (Mirror(proxy.host, "cache"),)
    pull("registry.invalid", "team/small", tmp_path / "prefixed", mirrors=prefixed)
    assert {exchange.path.split("/")[2] for exchange in proxy.exchanges} == {"cache"}


@pytest.mark.parametrize(
    "kind",
    [
        *(Kind.NOT_FOUND, Kind.FORBIDDEN, Kind.STATUS_500, Kind.STATUS_429, Kind.WRONG_BYTE),
        *(Kind.CUT, Kind.NO_ANSWER, Kind.GARBAGE, Kind.TRUNCATED, Kind.LONG_LENGTH),
    ],
)
@pytest.mark.parametrize("what", ["/manifests/", "/blobs/"])
def test_whatever_a_mirror_does_wrong_falls_back(
    registry: RegistryServer, proxy: FaultProxy, tmp_path: Path, kind: Kind, what: str
) -> None:
    proxy.plan = lambda exchange: Fault(kind, 100) if what in exchange.path else None
    pull(registry.host, "team/small", tmp_path, mirrors=(Mirror(proxy.host),))


def test_one_mirror_goes_on_where_another_stopped(
    registry: RegistryServer, proxy: FaultProxy, tmp_path: Path
) -> None:
    proxy.plan = lambda exchange: Fault(Kind.CUT, 1_000_000) if "/blobs/" in exchange.path else None
    notes: list[str] = []

    def monitor(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    with fault_proxy(registry.host) as second:
        mirrors = (Mirror(proxy.host), Mirror(second.host))
        pull("registry.invalid", "team/small", tmp_path, monitor, mirrors=mirrors)
        starts = [exchange.start for exchange in second.blobs() if exchange.sent_bytes > 10_000]
    # The first one gave a million bytes twice, once more than patience has retries for a mirror.
    assert starts == [2_000_000]
    assert [note for note in notes if note.startswith(f"mirror {proxy.host}: ")]


def test_wrong_bytes_of_a_mirror_do_not_spoil_the_rest(
    registry: RegistryServer, proxy: FaultProxy, tmp_path: Path
) -> None:
    """Let a mirror give a wrong beginning and break: the registry's end cannot mend that."""

    def plan(exchange: Exchange) -> Fault | None:
        if "/blobs/" not in exchange.path:
            return None
        return Fault(Kind.NO_ANSWER) if exchange.start else Fault(Kind.WRONG_BYTE, 5)

    proxy.plan = plan
    with fault_proxy(registry.host) as origin:
        origin.plan = lambda _: None
        pull(origin.host, "team/small", tmp_path, mirrors=(Mirror(proxy.host),))


def test_nobody_has_it(registry: RegistryServer, proxy: FaultProxy, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        pull(registry.host, "team/nothing", tmp_path, mirrors=(Mirror(proxy.host),))
    assert f"{registry.host}/team/nothing" in caught.value.what
    assert f"mirror {proxy.host}" in str(caught.value.hint)


def test_credentials_are_each_their_own(
    registry: RegistryServer, tool: Tool, layouts: Path, tmp_path: Path, saltflat: Saltflat
) -> None:
    """Give a password for the registry: its mirror, which asks for one too, must not see it."""
    with registry_server(
        tool("docker-registry"), tmp_path / "guarded", auth=htpasswd(tmp_path / "users")
    ) as guarded:
        name = "team/small:1"
        _push(tool("skopeo"), layouts / "small", guarded, name, f"--dest-creds={USER}:{PASSWORD}")
        with fault_proxy(guarded.host) as mirror:
            reference = f"{registry.host}/{name}"
            command = ["inspect", "--plain-http", "--mirror", mirror.host, reference]
            given = ["--username", USER, "--password-stdin"]
            done = saltflat(*command, *given, stdin=PASSWORD.encode())
            assert done.returncode == 0, done.stderr
            assert [exchange.authorization for exchange in mirror.exchanges] == [None]
        # With credentials of its own it is let in; nobody else has the image.
        authfile = _authfile(tmp_path)(guarded.host)
        mirrors = (Mirror(guarded.host),)
        pull("h.invalid", "team/small", tmp_path / "blobs", mirrors=mirrors, authfile=authfile)


# Several processes, and memory.


def test_two_processes_share_one_download(
    proxy: FaultProxy, tmp_path: Path, registry: RegistryServer
) -> None:
    command = [sys.executable, "-c", _FETCH, f"{proxy.host}/team/large:1", tmp_path]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [
        subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(2)
    ]
    assert [process.wait(100) for process in both] == [0, 0]
    layers = [exchange for exchange in proxy.blobs() if exchange.sent_bytes > 10_000]
    assert len(layers) == 1
    (blob,) = (tmp_path / "sha256").iterdir()
    assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name


def test_a_killed_process_is_followed_by_another(proxy: FaultProxy, tmp_path: Path) -> None:
    at = 30_000_001
    proxy.plan = lambda exchange: (
        Fault(Kind.STALL, at) if "/blobs/" in exchange.path and not exchange.start else None
    )
    # The configuration is shorter than that, so it comes whole.
    command = [sys.executable, "-c", _FETCH, f"{proxy.host}/team/large:1", tmp_path]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        with first:
            _wait_for_size(tmp_path / "sha256", at)
            first.send_signal(signal.SIGKILL)
    finally:
        first.kill()
    second = subprocess.run(command, env=environment, capture_output=True, timeout=100, check=False)
    assert second.returncode == 0, second.stderr
    starts = [exchange.start for exchange in proxy.blobs() if exchange.sent_bytes > 10_000]
    assert starts == [0, at]
    (blob,) = (tmp_path / "sha256").iterdir()
    assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name


def _wait_for_size(folder: Path, size_bytes: int) -> None:
    """Wait until a blob in the making has this size."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        sizes = [path.stat().st_size for path in folder.glob(f"{PARTIAL_PREFIX}*")]
        if sizes == [size_bytes]:
            return
        time.sleep(0.02)
    raise AssertionError(f"no blob of {size_bytes} bytes is in the making")


def test_memory_does_not_depend_on_a_blobs_size(registry: RegistryServer, tmp_path: Path) -> None:
    peaks = {}
    for name in ("small", "large"):
        done = subprocess.run(
            [sys.executable, "-c", _FETCH, f"{registry.host}/team/{name}:1", tmp_path / name],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
        peaks[name] = int(done.stderr.split("VmHWM:")[1].split()[0]) * 1024
    assert peaks["large"] <= peaks["small"] + MEMORY_TOLERANCE_BYTES


# The command, as a person calls it.


def test_a_conversion_survives_and_gives_the_same_links(
    saltflat: Saltflat, proxy: FaultProxy, layouts: Path, tmp_path: Path
) -> None:
    """Cut the layer three times, and compare with a conversion of the layout it came from."""

    def plan(exchange: Exchange) -> Fault | None:
        cut = sum(1 for other in proxy.exchanges if other.path == exchange.path) < 3
        return Fault(Kind.CUT, 500_000) if cut and "/blobs/" in exchange.path else None

    proxy.plan = plan
    command = ["convert", "--format", "json", "--store"]
    by_layout = json.loads(
        saltflat.good(*command, tmp_path / "a", f"oci:{layouts / 'small'}:latest")
    )
    reference = ["--plain-http", f"{proxy.host}/team/small:1"]
    pulled = json.loads(saltflat.good(*command, tmp_path / "b", *reference))
    identity = [(link["link_id"], link["sha256"]) for link in by_layout["links"]]
    assert [(link["link_id"], link["sha256"]) for link in pulled["links"]] == identity
    (layer,) = {exchange.path for exchange in proxy.blobs() if exchange.start}
    starts = [exchange.start for exchange in proxy.blobs() if exchange.path == layer]
    assert starts == [0, 500_000, 1_000_000, 1_500_000]


def test_a_registry_that_stays_broken(
    saltflat: Saltflat, proxy: FaultProxy, tmp_path: Path
) -> None:
    proxy.plan = lambda exchange: Fault(Kind.STALL) if "/blobs/" in exchange.path else None
    command = ["convert", "--store", tmp_path, "--plain-http", "--retries", "0", "--timeout", "0.3"]
    done = saltflat(*command, f"{proxy.host}/team/small:1")
    assert done.returncode == UnavailableError.exit_code
    assert b"did not answer in time" in done.stderr
    assert not list(tmp_path.glob("blobs/*/[!.]*"))

"""A docker-registry of a test's own, whose storage can be looked into and damaged.

With an access log it also tells what was asked of it.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 20
USER, PASSWORD = "ali", "open sesame"
# What `htpasswd -nbBC 5` makes of them: the registry takes bcrypt alone.
_HTPASSWD = "ali:$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n"
# Of a line in the Apache combined log format.
_BLOB_REQUEST = re.compile(r'"GET /v2/(\S+)/blobs/(sha256:[0-9a-f]{64}) ')


@dataclass(frozen=True, slots=True)
class RegistryServer:
    """A registry that serves at `host` ("127.0.0.1:port"), over TLS if it has a certificate."""

    host: str
    storage: Path
    access_log: Path
    process: int  # its id

    def blob_file(self, digest: str) -> Path:
        """Return the file in which the registry keeps a blob or manifest."""
        algorithm, encoded = digest.split(":")
        blobs = self.storage / "docker" / "registry" / "v2" / "blobs"
        return blobs / algorithm / encoded[:2] / encoded / "data"

    def fetched(self, *, leave_out: str | None = None) -> list[str]:
        """Return the digest of each blob that was asked for so far, as often as it was.

        Those of the repository `leave_out` do not count. Needs a server with `access_log`.
        """
        asked = _BLOB_REQUEST.findall(self.access_log.read_text())
        return [digest for repository, digest in asked if repository != leave_out]


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate for 127.0.0.1 and its key, both in PEM files; `authority` is to be trusted."""

    chain: Path
    key: Path
    authority: Path


@contextmanager
def registry_server(
    program: str,
    folder: Path,
    *,
    certificate: Certificate | None = None,
    auth: Mapping[str, object] | None = None,
    access_log: bool = False,
) -> Iterator[RegistryServer]:
    """Run `program` (docker-registry) in `folder` on a free port until the block ends.

    `auth` is that section of its configuration; `htpasswd` makes one.
    """
    storage = folder / "storage"
    storage.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        host = f"127.0.0.1:{free.getsockname()[1]}"
    http: dict[str, object] = {"addr": host, "secret": "of uploads"}
    if certificate:
        http["tls"] = {"certificate": str(certificate.chain), "key": str(certificate.key)}
    config = folder / "config.json"  # JSON is YAML
    config.write_text(
        json.dumps(
            {
                "version": 0.1,
                "log": {"level": "warn", "accesslog": {"disabled": not access_log}},
                "storage": {"filesystem": {"rootdirectory": str(storage)}},
                "http": http,
                **({"auth": dict(auth)} if auth else {}),
            }
        )
    )
    asked = folder / "access.log"
    with (folder / "log").open("wb") as log, asked.open("wb") as access:
        server = subprocess.Popen([program, "serve", str(config)], stdout=access, stderr=log)
    try:
        _wait_until_it_listens(host, server, folder / "log")
        yield RegistryServer(host, storage, asked, server.pid)
    finally:
        server.terminate()
        server.wait(10)


def htpasswd(folder: Path) -> dict[str, object]:
    """Return the configuration of a registry that lets USER in with PASSWORD and nobody else."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "htpasswd"
    file.write_text(_HTPASSWD)
    return {"htpasswd": {"realm": "a test", "path": str(file)}}


def make_certificate(openssl: str, folder: Path) -> Certificate:
    """Make an authority and a certificate that it signed, with the openssl program."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    authority = ["-out", "ca.pem", "-keyout", "ca-key.pem", "-days", "2"]
    signed_by = ["-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-days", "2"]
    for command in (
        ["req", "-x509", *key, "-subj", "/CN=authority", *authority],
        ["req", "-new", *key, "-subj", "/CN=registry", "-out", "request.pem", "-keyout", "key.pem"],
        ["x509", "-req", "-in", "request.pem", *signed_by, "-extfile", "san", "-out", "cert.pem"],
    ):
        subprocess.run([openssl, *command], cwd=folder, check=True, capture_output=True, timeout=20)
    return Certificate(folder / "cert.pem", folder / "key.pem", folder / "ca.pem")


def _wait_until_it_listens(host: str, server: subprocess.Popen[bytes], log: Path) -> None:
    address, port = host.split(":")
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection((address, int(port)), timeout=1).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"the registry did not start:\n{log.read_text(errors='replace')}")

"""Certificates for relays and clients of the tests. Owns how they are made, by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Return (certificate, key) of a name, signed by itself."""
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    new = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    named = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*new.split(), *named, "-out", paths[0], "-keyout", paths[1]],
        check=True,
        capture_output=True,
        timeout=30,
    )
    return paths

"""Certificates of tests, made by the openssl program."""

from __future__ import annotations

import subprocess
from pathlib import Path


def self_signed(openssl: str, folder: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that only itself vouches for, and its key, in `folder`."""
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt"]
    command += ["ec_paramgen_curve:prime256v1", "-noenc", "-subj", "/CN=test", "-days", "2"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", "cert.pem", "-keyout", "key.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=20)
    return folder / "cert.pem", folder / "key.pem"

"""Sign a package: the certificate file over the manifest's bytes, made by the openssl program.

DSP0243 1.1.0, section 5.1: a line with the signature of the manifest, then the X.509 certificate,
as VMware's ovftool and open-vmdk write it and VMware's importers check it. The private key is read
by openssl alone, which may ask for its passphrase on our terminal.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from converter.errors import NotFoundError, SaltflatError, UsageError
from converter.package.manifest import ALGORITHM
from converter.programs import lines_of, run_to_end

_PROGRAM = "openssl"
_CERTIFICATE_BYTES_MAX = 1 << 20
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
_BLOCK = re.compile(re.escape(_BEGIN) + rb"[A-Za-z0-9+/=\s]+" + re.escape(_END))


@dataclass(frozen=True, slots=True)
class Signer:
    """An RSA key's file, and the certificates that belong to it, the signer's first, in PEM.

    `signature_bytes` is how long each of its signatures is.
    """

    key: Path
    certificates: bytes
    signature_bytes: int

    def length(self, manifest_name: str) -> int:
        """Return how many bytes `sign` returns, whatever the manifest."""
        return len(self._encode(manifest_name, bytes(self.signature_bytes)))

    def sign(self, manifest_name: str, manifest: bytes) -> bytes:
        """Return the bytes of the certificate file for the manifest of that name.

        Raises NotFoundError without openssl, SaltflatError when it fails.
        """
        with tempfile.NamedTemporaryFile() as file:
            file.write(manifest)
            file.flush()
            # By name and not by stdin, which stays the terminal that a passphrase is asked on.
            signature = _openssl(["dgst", "-sha256", "-sign", str(self.key), file.name])
        return self._encode(manifest_name, signature)

    def _encode(self, manifest_name: str, signature: bytes) -> bytes:
        return f"{ALGORITHM}({manifest_name})= {signature.hex()}\n".encode() + self.certificates


def load_signer(key: Path, certificate: Path | None) -> Signer:
    """Return the signer with the private key in file `key`, an RSA key in PEM.

    The certificates are in `certificate`, or in the file of the key. Raises NotFoundError for a
    missing file, UsageError when there is no certificate or when it is another key's, and as
    `Signer.sign` does.
    """
    source = key if certificate is None else certificate
    for path in (key, source):
        if not path.is_file():
            raise NotFoundError(f"There is no file {path}.", expected="a key or certificate in PEM")
    with source.open("rb") as file:
        blocks = _BLOCK.findall(file.read(_CERTIFICATE_BYTES_MAX))
    if not blocks:
        raise UsageError(
            f"{source} holds no certificate.",
            expected="-----BEGIN CERTIFICATE-----, the signer's first",
            hint="Name the file that has it with --cert." if certificate is None else None,
        )
    certificates = b"".join(block.replace(b"\r\n", b"\n") + b"\n" for block in blocks)
    public = _openssl(["rsa", "-in", str(key), "-pubout"])
    if public != _openssl(["x509", "-noout", "-pubkey"], stdin=certificates):
        raise UsageError(
            f"The certificate in {source} is not that of the key in {key}.",
            expected="the certificate of the same key first",
        )
    modulus = _openssl(["rsa", "-pubin", "-noout", "-modulus"], stdin=public)
    return Signer(key, certificates, len(modulus.strip().partition(b"=")[2]) // 2)


def _openssl(arguments: Sequence[str], *, stdin: bytes | None = None) -> bytes:
    done = run_to_end(_PROGRAM, arguments, package=_PROGRAM, stdin=stdin)
    if done.returncode != 0:
        said = lines_of(done.stderr)
        raise SaltflatError(
            f"{_PROGRAM} {arguments[0]} failed: {said[0] if said else done.returncode}",
            expected="an RSA key in PEM and its certificate",
        )
    return done.stdout

"""Read an EFI executable: its sections by name, and what a signature in it is about. Pure.

Whether a signature's key is to be trusted is the firmware's question. Source of the digest:
Microsoft, "Windows Authenticode Portable Executable Signature Format", "Calculating the PE Image
Hash".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from converter.errors import IntegrityError
from tinykernel.media import c_pe as c

_DIGESTS = ("sha256", "sha384", "sha512", "sha1")


@dataclass(frozen=True, slots=True)
class Executable:
    """A PE32+ executable; `headers_at` is where the COFF header begins."""

    data: bytes
    headers_at: int

    @classmethod
    def read(cls, data: bytes) -> Executable:
        """Look at the headers. Raises IntegrityError when these are no executable's."""
        at = 0
        if data.startswith(c.DOS_MAGIC) and len(data) >= c.E_LFANEW + c.U32.size:
            at = c.U32.unpack_from(data, c.E_LFANEW)[0] + len(c.SIGNATURE)
        optional = at + c.COFF_HEADER.size
        end = optional + c.DATA_DIRECTORIES_OFFSET
        end += (c.CERTIFICATE_TABLE_INDEX + 1) * c.DATA_DIRECTORY_SIZE
        if (
            not at
            or not data.startswith(c.SIGNATURE, at - len(c.SIGNATURE))
            or len(data) < end
            or c.U16.unpack_from(data, optional)[0] != c.PE32PLUS_MAGIC
        ):
            raise IntegrityError("it is no EFI executable")
        return cls(data, at)

    def sections(self) -> dict[str, bytes]:
        """Return name -> content of the sections. Raises IntegrityError when one is cut short."""
        coff = c.CoffHeader._make(c.COFF_HEADER.unpack_from(self.data, self.headers_at))
        table = self.headers_at + c.COFF_HEADER.size + coff.SizeOfOptionalHeader
        if table + coff.NumberOfSections * c.SECTION_HEADER.size > len(self.data):
            raise IntegrityError("its section table is cut short")
        found = {}
        for number in range(coff.NumberOfSections):
            row = c.SectionHeader._make(
                c.SECTION_HEADER.unpack_from(self.data, table + number * c.SECTION_HEADER.size)
            )
            size = min(row.VirtualSize, row.SizeOfRawData)
            if row.PointerToRawData + size > len(self.data):
                raise IntegrityError("a section is cut short")
            name = row.Name.rstrip(b"\0").decode("ascii", "replace")
            found[name] = self.data[row.PointerToRawData : row.PointerToRawData + size]
        return found

    def signature_fault(self) -> str | None:
        """Return what is wrong with the signature; None when there is one, of these very bytes."""
        directory = self._optional + c.DATA_DIRECTORIES_OFFSET
        directory += c.CERTIFICATE_TABLE_INDEX * c.DATA_DIRECTORY_SIZE
        table, size = c.DATA_DIRECTORY.unpack_from(self.data, directory)
        if not table or not size:
            return "it has no signature"
        if table + size > len(self.data) or size < c.WIN_CERTIFICATE.size:
            return "its signature is cut short"
        length, _revision, kind = c.WIN_CERTIFICATE.unpack_from(self.data, table)
        if kind != c.WIN_CERT_TYPE_PKCS_SIGNED_DATA or length > size:
            return "its signature is none that firmware takes"
        signature = self.data[table + c.WIN_CERTIFICATE.size : table + length]
        # What is signed names the digest itself, so it stands in the signature as it is.
        if not any(self._digest(name, directory, table) in signature for name in _DIGESTS):
            return "its signature is not of this executable"
        return None

    @property
    def _optional(self) -> int:
        return self.headers_at + c.COFF_HEADER.size

    def _digest(self, algorithm: str, directory: int, end: int) -> bytes:
        """Return the digest of all but the checksum, the signature's place and the signature."""
        checksum = self._optional + c.CHECKSUM_OFFSET
        hasher = hashlib.new(algorithm)
        hasher.update(self.data[:checksum])
        hasher.update(self.data[checksum + c.U32.size : directory])
        hasher.update(self.data[directory + c.DATA_DIRECTORY_SIZE : end])
        return hasher.digest()

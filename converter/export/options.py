"""What a person asks for of a machine or a package around an exported disk, and what becomes of it.

Owns the values by the words that people use, their checks, and how they become settings. Whoever
reads the words (a command line, a batch's file) makes these.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.errors import NotFoundError, UsageError
from converter.export.exportable import Exportable
from converter.export.settings import Firmware, MachineSettings, PackageSettings
from converter.image.platform import Platform
from converter.store.bootimages import boot_image_for
from converter.store.bundle_boot import BundleBoot, bundle_boot_image
from converter.store.layout import Store
from tinykernel.media.record import Kind, load_media

_LEAST_MEMORY_BYTES = 128 << 20
_KEY_FILE_BYTES = 1 << 12
_MEDIA = {Kind.ISO: "ISO image", Kind.STREAM: "streamOptimized disk"}
BOOT_MEDIA = {"iso": Kind.ISO, "disk": Kind.STREAM}


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineOptions:
    """The options as they were given. `given` names those that somebody set."""

    given: tuple[str, ...]
    boot_name: str | None
    memory: int
    cpus: int
    firmware: str
    serial: str
    serial_log: bool
    key: bytes | None
    hostname: str | None

    def check(self, kind: str, *, is_machine: bool) -> None:
        """Raise UsageError for what the type of export has no use for, and for wrong values."""
        if self.given and not is_machine:
            raise UsageError(
                f"{self.given[0]} says nothing of a disk, which is all that --type {kind} makes.",
                expected="it beside a type that is a machine, such as vmx or ova",
            )
        if self.serial:
            from converter.package.vmx import check_serial  # noqa: PLC0415 - as in settings

            check_serial(self.serial)
        if self.memory < _LEAST_MEMORY_BYTES:
            raise UsageError(
                f"--memory {self.memory} cannot boot a machine.",
                expected=f"at least {_LEAST_MEMORY_BYTES >> 20}m",
            )

    def settings(
        self, source: Exportable, store: Store, name: str, medium: Kind = Kind.ISO
    ) -> MachineSettings:
        """Return what the exporter is told of the machine called `name`.

        Raises as `boot_medium`.
        """
        # Only who makes machines waits for what is about them.
        from converter.export.guest import (  # noqa: PLC0415 - see above
            guest_document,
            host_name,
            mac_address,
        )

        mac, hostname = mac_address(source), self.hostname or host_name(name)
        return MachineSettings(
            boot_medium=self.boot_medium(store, source.image.platform, source.boot, medium),
            boots_from_disk=medium is not Kind.ISO,
            document=guest_document(source, key=self.key, mac=mac, hostname=hostname),
            has_key=self.key is not None,
            mac=mac,
            memory_mib=self.memory >> 20,
            processors=self.cpus,
            firmware=Firmware(self.firmware),
            serial=self.serial,
            serial_log=self.serial_log,
        )

    def boot_medium(
        self, store: Store, platform: Platform, wanted: BundleBoot | None, kind: Kind = Kind.ISO
    ) -> Path:
        """Return the medium that a machine starts from; `wanted` is what its bundle names.

        Raises NotFoundError when there is no boot image or it has none, and as the store does.
        """
        if self.boot_name is None and wanted is not None:
            boot = bundle_boot_image(store, platform, wanted)
        else:
            boot = boot_image_for(store, platform, self.boot_name)
        media = load_media(boot)
        for medium in () if media is None else media.media:
            if medium.kind is kind:
                return medium.path
        raise NotFoundError(
            f"The boot image {boot.id[:12]} has no {_MEDIA[kind]} for a machine to start from.",
            hint=f"Make it with: saltflat boot build --media {kind.value}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageOptions:
    """The options as they were given. `given` names those that somebody set."""

    given: tuple[str, ...]
    is_delta: bool
    variables: tuple[str, ...]
    network: str
    medium_name: str
    key: Path | None
    certificate: Path | None

    @property
    def medium(self) -> Kind:
        """The kind of boot medium that the package's machine starts from."""
        return BOOT_MEDIA[self.medium_name]

    def check(self, kind: str, *, is_package: bool) -> None:
        """Raise UsageError for what the type of export has no use for."""
        if self.given and not is_package:
            raise UsageError(
                f"{self.given[0]} says nothing of what --type {kind} makes.",
                expected="it beside --type ovf or ova",
            )
        if self.certificate is not None and self.key is None:
            raise UsageError("--cert is for a signature.", expected="--sign KEY beside it")

    def settings(self, serial: str) -> PackageSettings:
        """Return what the exporter is told of the package of a machine with the line `serial`.

        Raises UsageError for a line that no server has and for what cannot be a property, and as
        the signer does.
        """
        # Only who makes packages waits for what is about them.
        from converter.package.properties import property_sections  # noqa: PLC0415 - see above
        from converter.package.signing import load_signer  # noqa: PLC0415 - see above

        property_sections({}, asked=self.variables)
        if not self.network.strip():
            raise UsageError("--network-name is empty.", expected="the name of a network")
        if serial.startswith("pipe:"):
            raise UsageError(
                f"--serial {serial} is of VMware's desktop products.",
                expected="telnet://HOST:PORT or telnets://HOST:PORT of a concentrator in a package",
            )
        return PackageSettings(
            is_delta=self.is_delta,
            network=self.network,
            variables=self.variables,
            signer=None if self.key is None else load_signer(self.key, self.certificate),
        )


def read_machine_options(
    *,
    key_file: Path | None,
    hostname: str | None,
    **own: Any,  # noqa: ANN401 - members of it
) -> MachineOptions:
    """Return the options, with the key that `key_file` holds. Raises UsageError, OSError."""
    if hostname is not None:
        from converter.export.guest import host_name  # noqa: PLC0415 - as in settings

        if host_name(hostname) != hostname:
            raise UsageError(
                f"--hostname {hostname!r} is no host name.",
                expected="1 to 63 letters, digits, dots and dashes, a letter or digit at both ends",
            )
    key = None if key_file is None else _read_key(key_file)
    return MachineOptions(key=key, hostname=hostname, **own)


def _read_key(path: Path) -> bytes:
    from converter.machine.model import KEY_BYTES  # noqa: PLC0415 - as in settings

    with path.open("rb") as file:
        text = file.read(_KEY_FILE_BYTES)
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        # The content is a secret: say what is expected, never what was there.
        raise UsageError(f"{path} has no key.", expected=f"{2 * KEY_BYTES} hexadecimal digits")
    return key

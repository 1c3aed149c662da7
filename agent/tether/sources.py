"""Where the configuration document comes from, and how it is made unreachable afterwards.

Owns the kernel command line's `tether.config=` and the sources behind it. A source is read once and
then forgotten, because the document holds the channel's key and the process must not find it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Optional, Protocol

from agent.tether import config, log, syscalls
from agent.tether.errors import StartError
from agent.tether.modules import ModuleLoader

if TYPE_CHECKING:
    from agent.tether.guestinfo import GuestInfo

FW_CFG_MODULE = "qemu_fw_cfg"
FW_CFG_DRIVER = "/sys/bus/platform/drivers/fw_cfg"
FW_CFG_FILE = "/sys/firmware/qemu_fw_cfg/by_name/opt/org.saltflat/config/raw"


class ConfigSource(Protocol):
    """One place that a document can come from."""

    def read(self) -> bytes:
        """Return the document's bytes; StartError("config") when there is none."""

    def forget(self) -> None:
        """Make the document unreachable from this guest, as far as this source can."""

    def look_again(self) -> Optional[bytes]:
        """Return the bytes of a document that has come since, and forget it; None: none has.

        Nothing but this place can give a machine another key.
        """


class FileSource:
    """A file in the guest, removed after it was read."""

    def __init__(self, path: str) -> None:
        self._path = path

    def read(self) -> bytes:
        """Return the file's content, at most one byte more than a document may have."""
        try:
            with open(self._path, "rb") as file:
                return file.read(config.MAX_DOCUMENT_BYTES + 1)
        except OSError as error:
            raise StartError(
                "config", "config cannot be read from {}: {}".format(self._path, error.strerror)
            ) from error

    def forget(self) -> None:
        """Remove the file."""
        try:
            os.unlink(self._path)
        except OSError as error:
            log.error("the config could not be removed: {}".format(error))

    def look_again(self) -> Optional[bytes]:
        """Return the content of another file that was put there whole."""
        try:
            found = self.read()
        except StartError:
            return None
        self.forget()
        return found


class FwCfgSource:
    """QEMU's firmware configuration device, by way of its sysfs driver."""

    def __init__(self, modules: ModuleLoader) -> None:
        self._modules = modules
        self._file = FileSource(FW_CFG_FILE)

    def read(self) -> bytes:
        """Load the driver and return the item's content."""
        self._modules.load(FW_CFG_MODULE)
        return self._file.read()

    def forget(self) -> None:
        """Unload the driver: the item cannot be erased, but without it only port I/O reaches it.

        One that is built into the kernel lets go of the device instead.
        """
        try:
            syscalls.unload_module(FW_CFG_MODULE)
        except OSError as error:
            if not _unbind(FW_CFG_DRIVER):
                log.error("{} could not be unloaded: {}".format(FW_CFG_MODULE, error))

    def look_again(self) -> Optional[bytes]:
        """Return None: what QEMU has there is fixed when it starts."""


def _unbind(driver: str) -> bool:
    """Take a driver's devices from it; say whether it had any."""
    found = False
    for name in os.listdir(driver) if os.path.isdir(driver) else ():
        if os.path.exists(os.path.join(driver, name, "subsystem")):  # a link to a device
            with open(os.path.join(driver, "unbind"), "w", encoding="ascii") as file:
                file.write(name)
            found = True
    return found


def choose_source(
    command_line: str, modules: ModuleLoader, guestinfo: Optional[GuestInfo] = None
) -> ConfigSource:
    """Return the source that `tether.config=fw_cfg|guestinfo|file:/path` names; the last counts.

    `guestinfo` is None on a machine that is not VMware's.
    """
    named = [
        word[len("tether.config=") :]
        for word in command_line.split()
        if word.startswith("tether.config=")
    ]
    if not named:
        raise StartError("config", "the kernel command line has no tether.config=")
    kind, _, path = named[-1].partition(":")
    if kind == "fw_cfg" and not path:
        return FwCfgSource(modules)
    if kind == "file" and path.startswith("/"):
        return FileSource(path)
    if kind == "guestinfo" and not path:
        if guestinfo is None:
            raise StartError("config", "tether.config=guestinfo: this is no VMware machine")
        return guestinfo.source()
    raise StartError(
        "config",
        "tether.config={}: expected fw_cfg, guestinfo or file:/path".format(named[-1]),
    )

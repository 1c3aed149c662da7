"""Where the configuration document comes from, and how it is made unreachable afterwards.

Owns the kernel command line's `tether.config=` and the sources behind it. A source is read once and
then forgotten, because the document holds the channel's key and the process must not find it.
"""

from __future__ import annotations

import os

from agent.hints import TYPE_CHECKING, List, Optional, Protocol, Sequence
from agent.tether import config, log, syscalls
from agent.tether.errors import StartError
from agent.tether.modules import Loader

if TYPE_CHECKING:
    from agent.tether.guestinfo import GuestInfo

FW_CFG_MODULE = "qemu_fw_cfg"
FW_CFG_DRIVER = "/sys/bus/platform/drivers/fw_cfg"
FW_CFG_FILE = "/sys/firmware/qemu_fw_cfg/by_name/opt/org.saltflat/config/raw"


class ConfigSource(Protocol):
    """One place that a document can come from."""

    @property
    def renews(self) -> bool:
        """Whether another document may come there later."""

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

    renews = True

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

    renews = False  # what QEMU has there is fixed when it starts

    def __init__(self, modules: Loader) -> None:
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
        """Return None: there is never another one."""


class FirstOf:
    """Several places, looked at in order: what the first one has that has anything counts."""

    def __init__(self, places: Sequence[ConfigSource]) -> None:
        self._places = places
        self._found: Optional[ConfigSource] = None

    @property
    def renews(self) -> bool:
        """Whether another document may come there where the first one came from."""
        return self._found is not None and self._found.renews

    def read(self) -> bytes:
        """Return the first document that there is; StartError("config") that says where none is."""
        missing = []
        for place in self._places:
            try:
                raw = place.read()
            except StartError as error:
                missing.append(error.message)
                continue
            self._found = place
            return raw
        raise StartError("config", "there is no document: " + "; ".join(missing))

    def forget(self) -> None:
        """Erase it there where it was found, and nowhere else."""
        if self._found is not None:
            self._found.forget()

    def look_again(self) -> Optional[bytes]:
        """Look there where it was found."""
        return None if self._found is None else self._found.look_again()


def _unbind(driver: str) -> bool:
    """Take a driver's devices from it; say whether it had any."""
    found = False
    for name in os.listdir(driver) if os.path.isdir(driver) else ():
        if os.path.exists(os.path.join(driver, name, "subsystem")):  # a link to a device
            with open(os.path.join(driver, "unbind"), "w", encoding="utf-8") as file:
                file.write(name)
            found = True
    return found


def choose_source(
    command_line: str,
    modules: Loader,
    guestinfo: Optional[GuestInfo] = None,
    *,
    file: Optional[str] = None,
) -> ConfigSource:
    """Return the source that `tether.config=fw_cfg|guestinfo|file:/path` names; the last counts.

    Without such a word it is the first that has a document: guestinfo, which is None on a machine
    that is not VMware's, fw_cfg, and `file` if one is given. A document itself is not taken from
    the kernel command line: its key could not be erased there.
    """
    named = [
        word[len("tether.config=") :]
        for word in command_line.split()
        if word.startswith("tether.config=")
    ]
    if not named:
        places: List[ConfigSource] = [] if guestinfo is None else [guestinfo.source()]
        places.append(FwCfgSource(modules))
        return FirstOf(places if file is None else [*places, FileSource(file)])
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

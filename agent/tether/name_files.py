"""The run's own files of names, kept by the agent so that they can change while the process runs.

Owns a small file system in the agent's world. The process's world gets mounts of its files
(`hold`), so what the agent writes arrives there, in the same files.
"""

from __future__ import annotations

import os

from agent.hints import Dict, Mapping
from agent.tether import log, network_files, syscalls
from agent.tether.host_config import HostConfig
from agent.tether.network_files import NO_NETWORK, Names

PLACE = "/names"  # in the agent's world
_OPTIONS = "mode=755,size=1024k"


class NameFiles:
    """/etc/hostname, hosts and resolv.conf of one run, in `folder`."""

    def __init__(self, host_name: str, host: HostConfig, folder: str = PLACE) -> None:
        self.folder = folder
        self._host_name = host_name
        self._host = host
        self._written: Dict[str, str] = {}

    def open(self, network: Names = NO_NETWORK) -> None:
        """Mount the file system and write the files. Raises OSError."""
        os.makedirs(self.folder, 0o700, exist_ok=True)
        # Its options are seen at the files in the process's world, where Docker's have none.
        syscalls.mount("tmpfs", self.folder, "tmpfs", 0, _OPTIONS)
        self.write(network)

    def write(self, network: Names) -> None:
        """Write the files. Raises OSError."""
        for path, text in network_files.compose(self._host_name, self._host, network).items():
            own = self._own(path)
            with open(own, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(own, 0o644)
            self._written[path] = text

    def update(self, network: Names) -> None:
        """Write what has changed, in place, but for a file that the process has made its own."""
        for path, text in network_files.compose(self._host_name, self._host, network).items():
            if text == self._written.get(path):
                continue
            try:
                self._replace(path, text)
            except OSError as error:
                log.error("{} cannot be written: {}".format(path, error.strerror))

    def hold(self) -> Mapping[str, int]:
        """Return a mount of each file that is nowhere yet, by the path where it belongs.

        For a child, before it leaves the agent's world.
        """
        return {path: syscalls.open_tree(self._own(path)) for path in self._written}

    def _replace(self, path: str, text: str) -> None:
        with open(self._own(path), "r+b") as file:
            # As Docker: who has changed the file is left with it.
            if file.read() != self._written[path].encode("utf-8"):
                log.info("{} is the process's own by now".format(path))
                return
            file.seek(0)
            file.write(text.encode("utf-8"))
            file.truncate()
        self._written[path] = text

    def _own(self, path: str) -> str:
        return os.path.join(self.folder, os.path.basename(path))

"""Files on a datastore: put there over HTTP, found, renamed and deleted by the API.

A file appears under its name whole: it is sent under another one and renamed. Knows nothing of what
files are for.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPResponse
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

from converter.errors import HypervisorError, NotFoundError, SaltflatError
from converter.vsphere import c_vsphere as c
from converter.vsphere.connection import Connection, vim
from converter.vsphere.faults import TRANSPORT_ERRORS, from_transport
from converter.vsphere.inventory import Node
from converter.vsphere.upload import Destination, open_http

PART = ".part-"  # in the name of what is being sent
_PIECE_BYTES = 1 << 20
_ANSWER_SECONDS = 300.0
_TASK_SECONDS = 300.0
_NONCE_BYTES = 6


@dataclass(frozen=True, slots=True)
class File:
    """A file in a folder of a datastore; `modified` is by the server's clock."""

    name: str
    size_bytes: int
    modified: datetime


class DatastoreFiles:
    """The files of one datastore. Paths have slashes and begin at its top."""

    def __init__(
        self, connection: Connection, datacenter: Node, datacenter_path: str, datastore: Node
    ) -> None:
        """Take the datacenter, its path in the inventory, and the datastore, which is in it."""
        self._connection = connection
        self._datacenter: Any = datacenter.reference
        self._datacenter_path = datacenter_path.strip("/")
        self._datastore = datastore

    def full(self, path: str) -> str:
        """Return a path as the API has it: "[datastore] folder/file"."""
        return f"[{self._datastore.name}] {path}"

    def size(self, path: str) -> int | None:
        """Return how many bytes a file has, None when there is none."""
        answer = self._request("HEAD", path)
        if answer.status == 404:
            return None
        self._judge(answer, path)
        return int(answer.headers.get("Content-Length") or 0)

    def put(self, path: str, file: BinaryIO, size_bytes: int, told: Callable[[int], None]) -> None:
        """Send `file` and have it appear at `path` whole, unless somebody else was faster.

        `told` is called with how many bytes have gone.
        """
        folder = path.rpartition("/")[0]
        part = f"{path}{PART}{secrets.token_hex(_NONCE_BYTES)}"
        self._make_folder(folder)
        try:
            self._judge(self._request("PUT", part, file, size_bytes, told), part)
            self.rename(part, path)
        except SaltflatError as error:
            with suppress(SaltflatError):
                self.delete(part)
            if error.cause != "name-taken":
                raise

    def rename(self, old: str, new: str) -> None:
        """Give a file another path. Raises HypervisorError, cause name-taken, if that is one."""
        doing = f"rename the file {old}"
        with self._connection.doing(doing):
            task = self._connection.content.fileManager.MoveDatastoreFile_Task(
                self.full(old), self._datacenter, self.full(new), self._datacenter, False
            )
        self._connection.wait(task, doing=doing, timeout_seconds=_TASK_SECONDS)

    def delete(self, path: str) -> None:
        """Delete a file. Raises NotFoundError."""
        doing = f"delete the file {path}"
        with self._connection.doing(doing):
            task = self._connection.content.fileManager.DeleteDatastoreFile_Task(
                self.full(path), self._datacenter
            )
        self._connection.wait(task, doing=doing, timeout_seconds=_TASK_SECONDS)

    def listing(self, folder: str) -> Iterator[File]:
        """Yield the files right in a folder; none if there is no such folder."""
        details = vim.host.DatastoreBrowser.FileInfo.Details(
            fileSize=True, modification=True, fileType=False, fileOwner=False
        )
        specification = vim.host.DatastoreBrowser.SearchSpec(details=details, matchPattern=["*"])
        doing = f"list the folder {folder}"
        browser: Any = self._connection.properties(self._datastore.reference, ["browser"])
        try:
            with self._connection.doing(doing):
                task = browser["browser"].SearchDatastore_Task(self.full(folder), specification)
            found = self._connection.wait(task, doing=doing, timeout_seconds=_TASK_SECONDS)
        except NotFoundError:
            return
        for one in found.file:
            if isinstance(one, vim.host.DatastoreBrowser.FolderInfo):
                continue
            if one.fileSize is None or one.modification is None:
                continue  # it went while the server looked
            moment = one.modification
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            yield File(str(one.path), int(one.fileSize), moment)

    def _make_folder(self, folder: str) -> None:
        try:
            with self._connection.doing(f"make the folder {folder}"):
                self._connection.content.fileManager.MakeDirectory(
                    self.full(folder), self._datacenter, True
                )
        except HypervisorError as error:
            if error.cause != "name-taken":
                raise

    def _request(
        self,
        method: str,
        path: str,
        file: BinaryIO | None = None,
        size_bytes: int = 0,
        told: Callable[[int], None] | None = None,
    ) -> HTTPResponse:
        """Make a request and return its answer, read; a session that has ended is made anew."""
        assert self._connection.session_key  # this logs in again where it must be
        settings = self._connection.settings
        address = settings.address
        query = urlencode(
            {
                c.FOLDER_DATACENTER: self._datacenter_path,
                c.FOLDER_DATASTORE: self._datastore.name,
            }
        )
        to = Destination(
            address.host,
            address.port,
            target=f"{c.FOLDER_PATH}/{quote(path)}?{query}",
            is_encrypted=address.scheme != "http",
            trust=settings.trust,
        )
        connection = open_http(to, settings.timeout_seconds)
        try:
            connection.putrequest(method, to.target)
            connection.putheader("Cookie", self._connection.cookie)
            if file is not None:
                connection.putheader("Content-Type", "application/octet-stream")
                connection.putheader("Content-Length", str(size_bytes))
            connection.endheaders()
            if file is not None:
                _send(connection, file, size_bytes, told or (lambda _sent: None))
                connection.sock.settimeout(_ANSWER_SECONDS)
            answer = connection.getresponse()
            answer.read(_PIECE_BYTES)
            return answer
        except TRANSPORT_ERRORS as error:
            raise from_transport(error, url=address.url, doing=f"take the file {path}") from error
        finally:
            connection.close()

    def _judge(self, answer: HTTPResponse, path: str) -> None:
        if not 200 <= answer.status < 300:
            raise HypervisorError(
                f"The datastore {self._datastore.name} refused {path}: "
                f"{answer.status} {answer.reason}.",
                hint="Check its free space, and that the user has Datastore.FileManagement on it.",
                cause="upload-refused",
            )


def _send(
    connection: HTTPConnection, file: BinaryIO, size_bytes: int, told: Callable[[int], None]
) -> None:
    file.seek(0)
    sent = 0
    while sent < size_bytes:
        piece = file.read(min(_PIECE_BYTES, size_bytes - sent))
        if not piece:
            raise OSError(f"the file of {size_bytes} bytes ends at {sent}")
        connection.send(piece)
        sent += len(piece)
        told(sent)

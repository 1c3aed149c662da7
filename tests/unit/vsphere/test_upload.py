"""Where a disk is sent, who is believed to be there, and what it means when a host refuses."""

from __future__ import annotations

import errno
import hashlib
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import BinaryIO

import pytest

from converter.errors import HypervisorError, SaltflatError
from converter.vsphere.settings import Given, read_settings
from converter.vsphere.trust import Trust
from converter.vsphere.upload import Destination, destination, send_disk

PIN = "AB:" * 19 + "AB"
HERE = read_settings(Given(url="me:pw@v.example:8443", trust=Trust(thumbprints=("0" * 64,))), {})


def test_a_host_alone_is_where_we_are():
    to = destination("https://*/nfc/52ab/disk-0.vmdk?a=b", PIN, HERE)
    assert (to.host, to.port, to.target) == ("v.example", 8443, "/nfc/52ab/disk-0.vmdk?a=b")
    assert to.trust == HERE.trust


def test_a_host_of_a_vcenter_is_believed_by_the_thumbprint_that_vcenter_gives():
    to = destination("https://esx1.example/nfc/52ab/disk-0.vmdk", PIN, HERE)
    assert (to.host, to.port, to.trust) == ("esx1.example", 443, Trust(thumbprints=("ab" * 20,)))
    assert destination("https://esx1.example/x", None, HERE).trust == HERE.trust


@pytest.mark.parametrize("url", ["http://esx1.example/x", "ftp://esx1.example/x", "/x", ""])
def test_what_is_less_safe_or_no_url_is_refused(url):
    with pytest.raises(HypervisorError):
        destination(url, None, HERE)


def test_a_host_that_refuses_is_quoted():
    size = (1 << 20) + 5
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            connection, _address = server.accept()
            with connection, connection.makefile("rb") as file:
                while file.readline().strip():
                    pass
                assert len(file.read(size)) == size
                connection.sendall(
                    b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\n\r\n"
                )

        refusing = threading.Thread(target=refuse)
        refusing.start()
        to = Destination("127.0.0.1", server.getsockname()[1], "/x", False, Trust())
        told: list[int] = []
        with pytest.raises(HypervisorError, match="507 Insufficient Storage") as caught:
            send_disk(to, _zeros(size), size, timeout_seconds=20, told=told.append)
        refusing.join()
    assert caught.value.cause == "upload-refused"
    assert told == [size]


def test_a_disk_of_unknown_length_goes_in_chunks():
    received = bytearray()

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Transfer-Encoding"] == "chunked"
            assert self.headers["Content-Length"] is None
            while size := int(self.rfile.readline(), 16):
                received.extend(self.rfile.read(size))
                assert self.rfile.read(2) == b"\r\n"
            assert self.rfile.read(2) == b"\r\n"
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    def write(file: BinaryIO) -> None:
        for number in range(100):
            file.write(bytes([number]) * 33_333)

    with HTTPServer(("127.0.0.1", 0), Taking) as server:
        taking = threading.Thread(target=server.handle_request)
        taking.start()
        to = Destination("127.0.0.1", server.server_address[1], "/x", False, Trust())
        told: list[int] = []
        sent = send_disk(to, write, None, timeout_seconds=20, told=told.append)
        taking.join()
    assert bytes(received) == b"".join(bytes([number]) * 33_333 for number in range(100))
    assert (sent.size_bytes, sent.sha1) == (3_333_300, hashlib.sha1(received).hexdigest())
    assert told[-1] == 3_333_300
    assert len(told) == 4  # gathered to pieces of a mebibyte


def test_a_disk_that_cannot_be_read_is_not_told_as_a_broken_line():
    def fail(_file: BinaryIO) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with socket.create_server(("127.0.0.1", 0)) as server:
        to = Destination("127.0.0.1", server.getsockname()[1], "/x", False, Trust())
        with pytest.raises(SaltflatError, match="cannot be read here") as caught:
            send_disk(to, fail, None, timeout_seconds=20, told=lambda _: None)
    assert caught.value.cause is None


def _zeros(size: int) -> Callable[[BinaryIO], None]:
    def write(file: BinaryIO) -> None:
        file.write(bytes(size))

    return write

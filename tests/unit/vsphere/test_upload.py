"""Where a disk is sent, who is believed to be there, and what it means when a host refuses."""

from __future__ import annotations

import io
import socket
import threading

import pytest

from converter.errors import HypervisorError
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
    size = 1 << 20
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
            send_disk(to, io.BytesIO(bytes(size)), size, timeout_seconds=20, told=told.append)
        refusing.join()
    assert caught.value.cause == "upload-refused"
    assert told == [size]

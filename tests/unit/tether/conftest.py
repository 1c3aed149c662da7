"""The line between a guest's loop and the host in a test."""

from __future__ import annotations

import socket

import pytest


@pytest.fixture
def lines():
    guest, host = socket.socketpair()
    guest.setblocking(False)
    yield guest, host
    guest.close()
    host.close()

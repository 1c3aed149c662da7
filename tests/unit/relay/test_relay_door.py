"""A relay's door where the process has no descriptor left."""

from __future__ import annotations

import os
import resource
import socket

import pytest

from agent.host.loop import Loop
from agent.host.relay import door


@pytest.fixture
def loop():
    made = Loop()
    yield made
    made.close()


def test_without_a_descriptor_it_rests_and_lets_in_who_waits(loop, tmp_path, monkeypatch):
    monkeypatch.setattr(door, "_PAUSE_SECONDS", 0.1)
    opened = door.local_door(tmp_path / "sock", loop, find=lambda _name: None)
    client = socket.socket(socket.AF_UNIX)
    client.connect(os.fspath(tmp_path / "sock"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(client.fileno())  # the lowest number, which the next one would have
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    later, turns = [], 0
    loop.call_at(loop.now() + 0.05, lambda: later.append(True))
    try:
        while not later:
            loop.turn()
            turns += 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert opened.clients == 0
    assert turns < 10, "it turned round and round"
    while not opened.clients:
        loop.turn()
    opened.close()
    client.close()

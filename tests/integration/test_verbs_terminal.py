"""Verbs at a terminal: raw mode, window size, detach keys, and that every way out gives it back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.lifecycle import Host, Terminal, host, until

pytestmark = [pytest.mark.integration, pytest.mark.vm, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def here(
    tmp_path_factory: pytest.TempPathFactory, demo_layout: Path, boot_store: Path
) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("host"), demo_layout, boot_store) as made:
        made.good("run", "-d", "-it", "--name", "shell", made.image, "sh")
        yield made


def test_a_shell_in_a_machine(here):
    with Terminal(here, "exec", "-it", "shell", "sh") as terminal:
        terminal.expect(b"$ ")
        assert terminal.is_raw
        terminal.type(b"stty size; tty; echo a$((1+1))b\r")
        shown = terminal.expect(b"a2b\r\n")
        assert b"33 101\r\n" in shown
        assert b"/dev/pts/" in shown
        terminal.type(b"sleep 100\r")
        terminal.expect(b"sleep 100\r\n")
        terminal.type(b"\x03")  # a key that the process sees, and no signal to the client
        terminal.expect(b"$ ")
        terminal.type(b"exit 3\r")
        assert terminal.end() == 3
        assert terminal.is_as_before


def test_a_window_that_changes_reaches_the_process(here):
    script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done"
    with Terminal(here, "exec", "-it", "shell", "sh", "-c", script) as terminal:
        terminal.expect(b"ready\r\n")
        terminal.resize(50, 132)
        terminal.expect(b"50 132\r\n")
        terminal.type(b"\x03")
        assert terminal.end() == 130
        assert terminal.is_as_before


def test_detach_keys_leave_the_process_and_the_terminal(here):
    script = "echo ready; read line; echo done > /tmp/detached"
    with Terminal(here, "exec", "-it", "shell", "sh", "-c", script) as terminal:
        terminal.expect(b"ready\r\n")
        terminal.type(b"\x10\x11")
        assert terminal.end() == 0
        assert b"goes on" in terminal.screen
        assert terminal.is_as_before
    with Terminal(here, "attach", "--detach-keys", "ctrl-a,d", "shell") as terminal:
        terminal.type(b"echo at$((1+1))tached\r")
        terminal.expect(b"at2tached")
        terminal.type(b"\x10\x15\x01d")  # other keys, and away with them
        assert terminal.end() == 0
        assert terminal.is_as_before
    assert here.inspect("shell")["status"] == "running"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_client_and_gives_the_terminal_back(here, number):
    with Terminal(here, "attach", "shell") as terminal:
        until(lambda: terminal.is_raw)
        terminal.type(b"echo he$((1+1))re\r")
        terminal.expect(b"he2re")
        terminal.signal(number)
        assert terminal.end() == 128 + number
        assert terminal.is_as_before
    assert here.inspect("shell")["status"] == "running"


def test_what_cannot_be_gives_the_terminal_back(here):
    for arguments, code in (
        (("exec", "-it", "shell", "no-such-program"), 127),
        (("exec", "-it", "nobody", "sh"), 125),
        (("attach", "--detach-keys", "ctrl-", "shell"), 125),
    ):
        with Terminal(here, *arguments) as terminal:
            assert terminal.end() == code
            assert b"Error: " in terminal.screen
            assert terminal.is_as_before


def test_an_attachment_survives_its_relay(here):
    """The supervisor is killed: whoever types goes on with the next one, and loses no key."""
    with Terminal(here, "attach", "shell") as terminal:
        terminal.type(b"echo be$((1+1))fore\r")
        terminal.expect(b"be2fore")
        supervisor = here.inspect("shell")["details"]["supervisor_pid"]

        os.kill(supervisor, signal.SIGKILL)
        terminal.type(b"echo af$((1+1))ter\r")
        terminal.expect(b"af2ter")
        terminal.type(b"exit 4\r")
        assert terminal.end() == 4
        assert terminal.is_as_before
    with Terminal(here, "start", "-ai", "shell") as terminal:
        terminal.expect(b"$ ")
        terminal.type(b"stty size; exit 6\r")
        terminal.expect(b"33 101\r\n")
        assert terminal.end() == 6
        assert terminal.is_as_before

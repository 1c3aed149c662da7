"""Raw mode on a real pty, restored on every way out; the window's size; signals as data."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios

import pytest

from agent.host import SignalInbox, catch_signals, raw_mode, window_size
from agent.host.signals import Action, SignalPolicy


@pytest.fixture
def terminal():
    controller, user = pty.openpty()
    yield user
    os.close(controller)
    os.close(user)


def local_flags(descriptor):
    return termios.tcgetattr(descriptor)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)


def test_keys_pass_as_they_are_and_the_mode_comes_back(terminal):
    before = termios.tcgetattr(terminal)
    with raw_mode(terminal):
        assert local_flags(terminal) == 0
    assert termios.tcgetattr(terminal) == before


def test_the_mode_comes_back_after_an_error(terminal):
    before = termios.tcgetattr(terminal)
    with pytest.raises(RuntimeError), raw_mode(terminal):
        raise RuntimeError
    assert termios.tcgetattr(terminal) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_mode_comes_back_when_a_signal_ends_the_process(terminal, number):
    before = termios.tcgetattr(terminal)
    program = (
        "import signal; from agent.host import raw_mode\n"
        f"signal.signal({int(number)}, signal.SIG_DFL)\n"  # nohup has it ignored
        "with raw_mode(0):\n"
        "    print('raw', flush=True)\n"
        "    while True: signal.sigtimedwait([], 0.1)"  # pause() may begin after the signal
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=terminal, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"raw\n"
        assert local_flags(terminal) == 0
        process.send_signal(number)
        assert process.wait(10) == -number
    assert termios.tcgetattr(terminal) == before


def test_raw_mode_leaves_the_handlers_as_they_were(terminal):
    before = signal.getsignal(signal.SIGTERM)
    with raw_mode(terminal):
        pass
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_window_size(terminal):
    assert window_size(terminal) is None  # 0 x 0: it does not know
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 132, 0, 0))
    assert window_size(terminal) == (50, 132)


def test_no_terminal_has_no_size():
    with open(os.devnull) as file:
        assert window_size(file.fileno()) is None


def test_signals_become_data():
    before = signal.getsignal(signal.SIGINT)
    with catch_signals() as inbox:
        assert inbox.drain() == []
        for number in (signal.SIGINT, signal.SIGWINCH, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert select.select([inbox], [], [], 5)[0]
        assert sorted(inbox.drain()) == sorted([signal.SIGINT, signal.SIGTERM, signal.SIGWINCH])
        assert not select.select([inbox], [], [], 0)[0]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_storm_of_signals_blocks_nobody():
    inbox = SignalInbox()
    for _ in range(100_000):
        inbox.put(signal.SIGWINCH)
    assert len(inbox.drain()) == 100_000
    inbox.close()


def test_interrupts_are_forwarded_and_the_second_within_two_seconds_ends_the_run():
    policy = SignalPolicy(terminal=False)

    def decide(now):
        return policy.decide(signal.SIGINT, now, reachable=True)

    assert [decide(0.0), decide(2.5), decide(5.0)] == [Action.FORWARD] * 3
    assert decide(6.9) is Action.ABORT


@pytest.mark.parametrize(
    ("number", "terminal", "reachable", "action"),
    [
        (signal.SIGTERM, False, True, Action.FORWARD),
        (signal.SIGHUP, False, True, Action.FORWARD),
        (signal.SIGINT, False, False, Action.ABORT),
        (signal.SIGTERM, False, False, Action.ABORT),
        (signal.SIGTERM, True, True, Action.ABORT),
        (signal.SIGWINCH, True, False, Action.RESIZE),
    ],
)
def test_what_a_signal_means(number, terminal, reachable, action):
    policy = SignalPolicy(terminal=terminal)
    assert policy.decide(number, 0.0, reachable=reachable) is action

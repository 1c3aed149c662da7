"""Pseudo-terminals: making one, its size, and the end of its input.

Owns the ioctls of a pty pair. Who reads and writes the master is `supervisor`'s matter.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios

from agent.hints import Tuple
from agent.tether import c_linux

_LFLAG, _CC = 3, 6  # places in the list that termios.tcgetattr returns


def open_terminal() -> Tuple[int, int]:
    """Return master and slave of a new terminal, neither of them anyone's controlling one.

    The slave is opened through the master, not by path: that works in any mount namespace.
    """
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, c_linux.TIOCSPTLCK, struct.pack("=i", 0))
    slave = fcntl.ioctl(master, c_linux.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    return master, slave


def set_size(terminal: int, rows: int, columns: int) -> None:
    """Set the size in character cells; on a master this also raises SIGWINCH."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, c_linux.WINSIZE.pack(rows, columns, 0, 0))


def end_of_input(master: int, *, line_open: bool) -> bytes:
    """Return what to write to the master so that the reader sees the end of its input.

    A terminal has no half close: in line mode the VEOF character stands for it, twice when the
    last line was not finished (the first one only hands that line over). In raw mode nothing does.
    """
    attributes = termios.tcgetattr(master)
    if not attributes[_LFLAG] & termios.ICANON:
        return b""
    end: bytes = attributes[_CC][termios.VEOF]
    return end + end if line_open else end

"""Ending what an agent that is no init has started; closing descriptors under an old kernel.

Each runs in an interpreter of its own, for it is about whole processes.
"""

from __future__ import annotations

import subprocess
import sys

_TREE = """
import os, signal, subprocess, sys, time
from agent.tether import descendants, syscalls

syscalls.become_subreaper()
# A tree three deep, whose middle ends at once, and one that ignores what can be ignored.
script = "(sh -c 'trap \\"\\" TERM HUP INT; echo $$; read x' & echo $!; read x) & echo $!; exit"
given, kept = os.pipe()
shell = subprocess.Popen(["sh", "-c", script], stdin=given, stdout=subprocess.PIPE, text=True)
pids = [int(shell.stdout.readline()) for _ in range(3)]
shell.wait()
descendants.kill_descendants()
while True:
    try:
        os.waitpid(-1, 0)
    except ChildProcessError:
        break
left = [pid for pid in pids if os.path.exists("/proc/%d" % pid)]
print(len(set(pids)) >= 2, left)
"""

_OLD_KERNEL = """
import errno, os
from agent.tether import syscalls

def refuse(*_arguments, **_names):
    raise OSError(errno.ENOSYS, "none")

syscalls._call = refuse
for number in (40, 41, 44, 60):
    os.dup2(0, number)
syscalls.close_range(41, 50)
syscalls.close_range(9, 8)
print(sorted(int(name) for name in os.listdir("/proc/self/fd") if int(name) >= 40))
syscalls.close_range(40)
print(sorted(int(name) for name in os.listdir("/proc/self/fd") if int(name) >= 40))
"""


def _run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_a_tree_is_killed_to_its_last_leaf():
    assert _run(_TREE) == "True []\n"


def test_descriptors_are_closed_where_the_kernel_cannot():
    assert _run(_OLD_KERNEL) == "[40, 60]\n[]\n"

"""The process's world as data: the plan keeps its own rules."""

from __future__ import annotations

import posixpath

from agent.tether import network_files, world
from agent.tether.c_linux import MS_NOEXEC, MS_NOSUID, MS_RDONLY
from agent.tether.host_config import DEFAULTS, HostConfig


def test_every_mount_comes_after_what_it_lies_in():
    targets = [mount.target for mount in world.MOUNTS]
    for index, target in enumerate(targets):
        parent = posixpath.dirname(target)
        for other in targets[index + 1 :]:
            assert parent != other, f"{target} would be hidden by {other}"


def test_no_mount_takes_set_user_id_programs():
    assert all(mount.flags & MS_NOSUID for mount in world.MOUNTS)
    assert all(mount.flags & MS_NOEXEC for mount in world.MOUNTS if mount.target != "/dev")


def test_the_machine_s_own_file_systems_are_read_only():
    flags = {mount.kind: mount.flags for mount in world.MOUNTS}
    assert flags["sysfs"] & MS_RDONLY
    assert flags["cgroup2"] & MS_RDONLY
    assert "devtmpfs" not in flags  # it would show the machine's disks and consoles


def test_what_gives_away_or_harms_the_machine_is_closed():
    assert {"/proc/kcore", "/proc/keys", "/sys/firmware"} <= set(world.MASKED_PATHS)
    assert {"/proc/sys", "/proc/sysrq-trigger"} <= set(world.READ_ONLY_PATHS)


def test_network_files_name_the_host():
    files = network_files.compose("box", DEFAULTS)
    assert files["/etc/hostname"] == "box\n"
    lines = [line.split() for line in files["/etc/hosts"].splitlines()]
    assert ["127.0.0.1", "localhost"] in lines
    assert ["127.0.1.1", "box"] in lines
    assert set(files) == {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}


def test_a_tmpfs_takes_the_place_of_our_mounts():
    host = HostConfig(tmpfs=(("/dev", "size=1m"), ("/srv/data/deep", ""), ("/srv", "")))
    targets = [mount.target for mount in world.plan_mounts(host)]
    assert targets == ["/proc", "/sys", "/sys/fs/cgroup", "/dev", "/srv", "/srv/data/deep"]


def test_only_a_privileged_process_may_write_to_the_machine_s_settings():
    for host, read_only in ((DEFAULTS, True), (HostConfig(privileged=True), False)):
        flags = {mount.target: mount.flags for mount in world.plan_mounts(host)}
        assert bool(flags["/sys"] & MS_RDONLY) is read_only
        assert bool(flags["/sys/fs/cgroup"] & MS_RDONLY) is read_only

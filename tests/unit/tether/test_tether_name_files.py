"""The files of names: written in place, and left to a process that has changed them."""

from __future__ import annotations

import os
from pathlib import Path

from agent.tether.host_config import DEFAULTS, HostConfig
from agent.tether.name_files import NameFiles
from agent.tether.network_files import Names, compose

LEASE = Names(("10.9.8.7", "2001:db8::7"), ("10.9.8.1",), ("corp.example",))


def written(folder: Path, host: HostConfig = DEFAULTS) -> NameFiles:
    files = NameFiles("box", host, os.fspath(folder))
    files.write(Names())
    return files


def test_a_lease_arrives_in_the_file_that_is_open(tmp_path):
    files = written(tmp_path)
    with (tmp_path / "resolv.conf").open() as reader:
        assert "no name server" in reader.read()
        files.update(LEASE)
        reader.seek(0)
        assert reader.read() == "nameserver 10.9.8.1\nsearch corp.example\n"
        files.update(Names())
        reader.seek(0)
        assert "no name server" in reader.read()


def test_the_machine_s_own_addresses(tmp_path):
    files = written(tmp_path)
    assert "\n127.0.1.1\tbox\n" in (tmp_path / "hosts").read_text()
    files.update(LEASE)
    text = (tmp_path / "hosts").read_text()
    assert text.endswith("\n10.9.8.7\tbox\n2001:db8::7\tbox\n")
    assert "127.0.1.1" not in text


def test_what_the_process_has_changed_stays_as_it_is(tmp_path):
    files = written(tmp_path)
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    files.update(LEASE)
    assert (tmp_path / "resolv.conf").read_text() == "nameserver 192.0.2.1\n"
    assert "10.9.8.7" in (tmp_path / "hosts").read_text()


def test_what_the_run_says_takes_the_place_of_what_the_network_says():
    host = HostConfig(name_servers=("192.0.2.53",), resolver_options=("ndots:2",))
    text = compose("box", host, LEASE)["/etc/resolv.conf"]
    assert text == "nameserver 192.0.2.53\nsearch corp.example\noptions ndots:2\n"
    none = HostConfig(search_domains=(".",))
    assert compose("box", none, LEASE)["/etc/resolv.conf"] == "nameserver 10.9.8.1\n"

"""Copies between host and a real guest, rule by rule of docker cp, through the client library."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.host import CopyError, client
from tests.integration.lifecycle import Host, host

pytestmark = [pytest.mark.integration, pytest.mark.vm, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Guest:
    """A machine that sleeps."""

    here: Host
    id: str

    @property
    def address(self) -> client.Address:
        return self.here.address(self.id)

    def run(self, script: str) -> str:
        return self.here.inside(self.id, script)

    def listing(self, path: str) -> list[str]:
        return self.run(f"cd {path} && find . -printf '%P %y %m %U:%G\\n' | sort").splitlines()


@pytest.fixture(scope="module")
def guest(
    tmp_path_factory: pytest.TempPathFactory, demo_layout: Path, boot_store: Path
) -> Iterator[Guest]:
    with host(tmp_path_factory.mktemp("host"), demo_layout, boot_store) as here:
        yield Guest(here, here.good("run", "-d", here.image, "sleep", "10000").strip())


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "run").write_text("#!/bin/sh\necho ran\n")
    (root / "run").chmod(0o750)
    (root / "sub" / "link").symlink_to("../run")
    os.link(root / "run", root / "sub" / "same")
    os.utime(root / "run", (1_000_000_000, 1_000_000_000))
    (tmp_path / "way").symlink_to("tree/run")
    return root


CONTENT = ["run f 750 0:0", "sub d 755 0:0", "sub/link l 777 0:0", "sub/same f 750 0:0"]


def test_into_the_guest(guest, tree):
    guest.run(
        "mkdir /t /t/old /t/into && ln -s old /t/link && ln -s fresh /t/dangling; echo x > /t/f"
    )

    def copy(source, target, **options):
        client.copy_in(guest.address, str(source), target, **options)

    copy(tree, "/t/new")  # what does not exist becomes the copy
    assert guest.listing("/t/new")[1:] == CONTENT
    assert guest.run("stat -c '%Y %h' /t/new/run; cat /t/new/sub/same") == (
        "1000000000 2\n#!/bin/sh\necho ran\n"
    )
    copy(tree, "/t/old")  # a folder takes it
    assert guest.listing("/t/old/tree")[1:] == CONTENT
    before = guest.run("stat -c '%a %U' /t/into")
    tree.chmod(0o700)
    copy(f"{tree}/.", "/t/into/")  # or what is in it, and stays as it was itself
    assert guest.listing("/t/into")[1:] == CONTENT
    assert guest.run("stat -c '%a %U' /t/into") == before
    copy(f"{tree}/", "t/slash/")  # paths begin at the root; a folder may get a new name with /
    assert guest.listing("/t/slash")[1:] == CONTENT
    copy(tree / "run", "/t/link")  # a link to a folder is that folder
    copy(tree / "run", "/t/f")  # a file takes a file's place
    copy(tree / "run", "/t/dangling")  # a link to nothing yet leads to where it will be
    assert guest.run("cd /t; cmp old/run f && cmp f fresh && readlink dangling") == "fresh\n"
    copy(tree.parent / "way", "/t/as-link")
    copy(tree.parent / "way", "/t/as-file", follow=True)
    assert guest.run("readlink /t/as-link; stat -c %F /t/as-file") == "tree/run\nregular file\n"


@pytest.mark.root
def test_into_the_guest_with_owners(guest, tree):
    os.chown(tree / "run", 1234, 5678)
    client.copy_in(guest.address, str(tree), "/owned", keep_owners=True)
    assert guest.run("stat -c %u:%g /owned /owned/run") == "0:0\n1234:5678\n"


@pytest.mark.parametrize(
    ("source", "target", "text"),
    [
        ("tree/run", "/no/", "does not exist"),
        ("tree/run", "/no/name", "/no: No such file"),
        ("tree", "/etc/passwd", "is a file"),
        ("tree/run", "/etc/passwd/", "is a file"),
        ("tree/run", "/etc/passwd/name", "Not a directory"),
        ("tree/run", "/dev/null", "neither a file nor a folder"),
        ("tree/run/", "/tmp", "is no folder|Not a directory"),
        ("none", "/tmp", "No such file"),
        ("tree/run", "/loop", "from link to link"),
    ],
)
def test_what_does_not_go_into_the_guest(guest, tree, source, target, text):
    guest.run("ln -sf loop /loop")
    with pytest.raises(CopyError, match=text):
        client.copy_in(guest.address, f"{tree.parent}/{source}", target)


@pytest.fixture(scope="module")
def prepared_guest(guest):
    guest.run(
        "mkdir -p /o/d/sub && cd /o && echo data > d/f && chmod 4751 d/f && ln -s f d/link"
        " && ln -s d way && mkfifo d/pipe && ln d/f d/sub/same && touch -d @1000000000 d/f"
    )
    return guest


def test_out_of_the_guest(prepared_guest, tmp_path):
    def copy(source, target, **options):
        return client.copy_out(prepared_guest.address, source, str(target), **options)

    done = copy("/o/d", tmp_path / "new")
    assert (done.entries, done.left_out) == (6, 1)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["f", "link", "sub"]
    copied = (tmp_path / "new" / "f").stat()
    assert (copied.st_mode & 0o7777, copied.st_mtime, copied.st_uid) == (0o751, 1e9, os.geteuid())
    assert (tmp_path / "new" / "link").readlink() == Path("f")
    assert (tmp_path / "new" / "sub" / "same").read_text() == "data\n"
    (tmp_path / "there").mkdir(mode=0o700)
    copy("o/d/", tmp_path / "there")
    assert (tmp_path / "there" / "d" / "f").exists()
    copy("/o/../o/d/.", tmp_path / "there")
    assert (tmp_path / "there" / "f").exists()
    assert (tmp_path / "there").stat().st_mode & 0o777 == 0o700
    copy("/o/d/.", tmp_path / "fresh")
    assert (tmp_path / "fresh" / "f").exists()
    copy("/o/way", tmp_path / "way")
    assert (tmp_path / "way").readlink() == Path("d")
    copy("/o/way", tmp_path / "followed", follow=True)
    assert (tmp_path / "followed" / "f").read_text() == "data\n"
    copy("/o/way/.", tmp_path / "through")
    assert (tmp_path / "through" / "f").exists()
    (tmp_path / "old").write_text("before")
    (tmp_path / "to-old").symlink_to("old")
    copy("/o/d/f", tmp_path / "to-old")
    assert (tmp_path / "old").read_text() == "data\n"
    assert (tmp_path / "to-old").is_symlink()


@pytest.mark.root
def test_out_of_the_guest_with_owners(prepared_guest, tmp_path):
    prepared_guest.run("mkdir /kept; echo x > /kept/f; ln -s f /kept/l; chown -hR 12:34 /kept")
    client.copy_out(prepared_guest.address, "/kept", str(tmp_path), keep_owners=True)
    for name in (".", "f", "l"):
        status = (tmp_path / "kept" / name).lstat()
        assert (status.st_uid, status.st_gid) == (12, 34)


@pytest.mark.parametrize(
    ("source", "target", "text"),
    [
        ("/none", "", "is not there"),
        ("/o/d/f", "none/", "does not exist"),
        ("/o/d/f", "none/f", "No such file"),
        ("/o/d", "old", "is a file"),
        ("/o/d/f/", "new", "Not a directory"),
        ("/o/d/f", "pipe", "neither a file nor a folder"),
    ],
)
def test_what_does_not_come_out_of_the_guest(prepared_guest, tmp_path, source, target, text):
    (tmp_path / "old").write_text("before")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CopyError, match=text):
        client.copy_out(prepared_guest.address, source, f"{tmp_path}/{target}")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old", "pipe"]

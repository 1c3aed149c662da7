"""Archives of copy-out and copy-in, without a machine: Python's tarfile is the other side."""

from __future__ import annotations

import io
import os
import tarfile
import threading

import pytest

from agent.tether import copy_in, copy_out


def gather(function):
    """Call function(output, errors) and return its code and what it wrote to both."""
    pipes = [os.pipe(), os.pipe()]
    got = [b"", b""]

    def read(index):
        with open(pipes[index][0], "rb") as file:
            got[index] = file.read()

    readers = [threading.Thread(target=read, args=(index,)) for index in (0, 1)]
    for reader in readers:
        reader.start()
    code = function(pipes[0][1], pipes[1][1])
    for index in (0, 1):
        os.close(pipes[index][1])
        readers[index].join()
    return code, *got


def copied_out(path, **options):
    options = {"follow": False, **options}
    return gather(lambda out, err: copy_out.run(os.fspath(path), output=out, errors=err, **options))


def copied_in(path, data):
    def run(_out, errors):
        source, writer = os.pipe()

        def feed():
            with open(writer, "wb") as file:
                try:
                    file.write(data)
                except BrokenPipeError:
                    return

        feeder = threading.Thread(target=feed)
        feeder.start()
        code = copy_in.run(os.fspath(path), source=source, errors=errors)
        os.close(source)
        feeder.join()
        return code

    return gather(run)


def make_tree(top):
    top.mkdir()
    (top / "plain").write_bytes(b"data" * 50_000)
    (top / "empty").touch()
    os.link(top / "plain", top / "zweitname")
    (top / ("n" * 200)).write_bytes(b"long")
    (top / os.fsdecode(b"raw\xff\n")).write_bytes(b"raw")
    (top / "link").symlink_to("t" * 150)
    (top / "deep" / "er").mkdir(parents=True)
    os.mkfifo(top / "fifo")
    os.utime(top / "empty", ns=(1, -1_500_000_000))
    os.utime(top / "deep", ns=(1, 1_234_567_890_123_456_789))
    (top / "empty").chmod(0o4751)


def described(top):
    """Return what is below a folder: mode with type, time, content or target, and links."""
    tree = {}
    for path in top.rglob("*"):
        status = path.lstat()
        what = b""
        if path.is_symlink():
            what = os.fsencode(path.readlink())
        elif path.is_file():
            what = path.read_bytes()
        links = 1 if path.is_dir() else status.st_nlink
        name = os.fsencode(path.relative_to(top))
        tree[name] = (oct(status.st_mode), status.st_mtime_ns, what, links)
    return tree


def test_there_and_back_again(tmp_path):
    make_tree(tmp_path / "tree")
    code, data, errors = copied_out(tmp_path / "tree")
    assert (code, errors) == (0, b"")
    (tmp_path / "new").mkdir()
    assert copied_in(tmp_path / "new", data)[::2] == (0, b"")
    assert described(tmp_path / "new/tree") == described(tmp_path / "tree")
    assert (tmp_path / "new/tree/plain").samefile(tmp_path / "new/tree/zweitname")


def test_what_python_reads(tmp_path):
    make_tree(tmp_path / "tree")
    _, data, _ = copied_out(tmp_path / "tree")
    (tmp_path / "other").mkdir()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extraction_filter = staticmethod(lambda member, _path: member)
        tar.extractall(tmp_path / "other")
    theirs, ours = described(tmp_path / "other/tree"), described(tmp_path / "tree")
    assert {n: (m, w, li) for n, (m, _, w, li) in theirs.items()} == {
        n: (m, w, li) for n, (m, _, w, li) in ours.items()
    }
    for name, (_, mtime_ns, _, _) in theirs.items():
        if name != b"link":  # tarfile does not set a link's
            assert abs(mtime_ns - ours[name][1]) < 1000  # its times are floats


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_what_python_writes(tmp_path, form):
    make_tree(tmp_path / "tree")
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        tar.add(tmp_path / "tree", "tree")
    (tmp_path / "new").mkdir()
    assert copied_in(tmp_path / "new", file.getvalue())[::2] == (0, b"")
    new, old = described(tmp_path / "new/tree"), described(tmp_path / "tree")
    assert set(new) == set(old)
    for name in old:
        assert (new[name][0], new[name][2:]) == (old[name][0], old[name][2:])


def test_every_cut_of_an_archive_ends_in_a_word(tmp_path):
    (tmp_path / "f").write_bytes(bytes(700))
    _, data, _ = copied_out(tmp_path / "f")
    for index, size in enumerate(range(1, 512 * 3, 97)):
        target = tmp_path / f"target{index}"
        target.mkdir()
        code, _, errors = copied_in(target, data[:size])
        assert (code, errors.count(b"\n")) == (1, 1)


def test_a_shallow_archive_says_what_is_there_and_no_more(tmp_path):
    make_tree(tmp_path / "tree")
    (tmp_path / "way").symlink_to("tree")
    for name, follow, kind in (
        ("tree", False, tarfile.DIRTYPE),
        ("way", False, tarfile.SYMTYPE),
        ("way", True, tarfile.DIRTYPE),
    ):
        code, data, errors = copied_out(tmp_path / name, follow=follow, shallow=True)
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            assert [(member.name, member.type) for member in tar] == [(name, kind)]
        assert (code, errors) == (0, b"")
    code, data, errors = copied_out(tmp_path / "none", follow=False, shallow=True)
    assert (code, data, errors.endswith(b": No such file or directory\n")) == (1, b"", True)


def test_what_changes_meanwhile_is_told(tmp_path, monkeypatch):
    (tmp_path / "f").write_bytes(bytes(2000))
    read = os.read
    monkeypatch.setattr(copy_out.os, "read", lambda *a: b"" if a[1] == 2000 else read(*a))
    code, data, errors = copied_out(tmp_path / "f")
    assert (code, errors) == (1, b"f: shrank while it was read\n")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getmember("f").size == 2000

"""-v, --mount and an image's own volumes, by Docker's rules: what is taken and what is refused."""

from __future__ import annotations

import pytest

from converter.cli.options import size
from converter.errors import UsageError
from converter.volume.request import (
    MOST_VOLUMES,
    VolumeRequest,
    parse_mount,
    parse_specification,
    volume_requests,
)


def requests(*specifications: str, mounts: tuple[str, ...] = (), image: tuple[str, ...] = ()):
    return volume_requests(specifications, mounts, image, read_size=size)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("db:/data", VolumeRequest(name="db", target="/data")),
        ("db:/data:", VolumeRequest(name="db", target="/data")),
        ("db:/data:rw", VolumeRequest(name="db", target="/data")),
        ("db:/data:ro", VolumeRequest(name="db", target="/data", read_only=True)),
        ("db:/data:nocopy", VolumeRequest(name="db", target="/data", copy=False)),
        (
            "db:/data:nocopy,ro,z",
            VolumeRequest(name="db", target="/data", read_only=True, copy=False),
        ),
        ("db:/data:cached", VolumeRequest(name="db", target="/data")),
        ("db://a/./b/../c/", VolumeRequest(name="db", target="/a/c")),
        ("/data", VolumeRequest(target="/data")),
        ("/data/", VolumeRequest(target="/data")),
        ("a.b_c-1:/x y", VolumeRequest(name="a.b_c-1", target="/x y")),
        ("db:/processes", VolumeRequest(name="db", target="/processes")),
    ],
)
def test_specifications(text: str, expected: VolumeRequest) -> None:
    assert parse_specification(text) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not a volume"),
        (":/data", "is not a volume"),
        ("db:", "is not a volume"),
        ("/data:ro", "is not a volume"),  # a path with a mode is Docker's mistake, too
        ("db:/data:ro:z", "is not a volume"),
        ("data", "not an absolute path"),
        ("db:data", "not an absolute path"),
        ("db:./data", "not an absolute path"),
        ("db:/", "the root"),
        ("db:/x/..", "the root"),
        ("/", "the root"),
        ("db:/proc", "kernel"),
        ("db:/proc/sys", "kernel"),
        ("db:/dev/", "devices"),
        ("db:/a\0b", "NUL"),
        ("db:/data:r", "the mode 'r'"),
        ("db:/data:ro,rw", "the mode"),
        ("db:/data:ro,ro", "the mode"),
        ("db:/data:rshared", "the mode"),
        ("d:/data", "too short"),
        ("-db:/data", "cannot name a volume"),
        ("d b:/data", "cannot name a volume"),
        ("dé:/data", "cannot name a volume"),
        ("a" * 201 + ":/data", "cannot name a volume"),
        ("a/b:/data", "cannot name a volume"),
        ("/srv/data:/data", "folder of this host"),
        ("./data:/data:ro", "folder of this host"),
        (".:/data", "folder of this host"),
        ("../x:/data", "folder of this host"),
        ("~/x:/data", "folder of this host"),
    ],
)
def test_specifications_that_are_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        parse_specification(text)
    assert refused.value.expected


def test_a_folder_of_the_host_comes_with_a_way_out() -> None:
    for attempt in (
        lambda: parse_specification("/srv:/data"),
        lambda: parse_mount("type=bind,source=/srv,target=/data", read_size=size),
    ):
        with pytest.raises(UsageError) as refused:
            attempt()
        assert refused.value.hint is not None
        for way in ("-v NAME:PATH", "saltflat cp", "the image"):
            assert way in refused.value.hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("source=db,target=/data", VolumeRequest(name="db", target="/data")),
        ("type=volume,src=db,dst=/data", VolumeRequest(name="db", target="/data")),
        ("TYPE=volume,Source=db,Destination=/data/.", VolumeRequest(name="db", target="/data")),
        ("target=/data", VolumeRequest(target="/data")),
        ("source=,target=/data", VolumeRequest(target="/data")),
        ("src=db,dst=/d,readonly", VolumeRequest(name="db", target="/d", read_only=True)),
        ("src=db,dst=/d,ro=true", VolumeRequest(name="db", target="/d", read_only=True)),
        ("src=db,dst=/d,ro=0", VolumeRequest(name="db", target="/d")),
        ("src=db,dst=/d,volume-nocopy", VolumeRequest(name="db", target="/d", copy=False)),
        ("src=db,dst=/d,volume-nocopy=F", VolumeRequest(name="db", target="/d")),
        ('src=db,"dst=/a,b"', VolumeRequest(name="db", target="/a,b")),
        ("src=db,dst=/a:b", VolumeRequest(name="db", target="/a:b")),
        (
            "src=db,dst=/d,volume-label=a=b=c,volume-label=e,volume-driver=local",
            VolumeRequest(name="db", target="/d", labels={"a": "b=c", "e": ""}),
        ),
        (
            "src=db,dst=/d,volume-opt=size=20G",
            VolumeRequest(name="db", target="/d", size_bytes=20 << 30),
        ),
    ],
)
def test_mounts(text: str, expected: VolumeRequest) -> None:
    assert parse_mount(text, read_size=size) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no target"),
        ("source=db", "no target"),
        ("source=db,target=", "no target"),
        ("source=db,target=data", "not an absolute path"),
        ("source=db,target=/", "the root"),
        ("source=db,target=/d,", "has no value"),
        ("source=db,target", "has no value"),
        ("source=db,target=/d,ro=maybe", "neither true nor false"),
        ("source=db,target=/d,volume-subpath=x", "is not known"),
        ("source=db,target=/d,volume-driver=nfs", "is not known"),
        ("source=db,target=/d,volume-opt=type=nfs", "is not known"),
        ("source=db,target=/d,bind-propagation=shared", "is not known"),
        ("source=db,target=/d,colour=red", "is not known"),
        ("target=/d,readonly", "cannot be written"),
        ("type=bind,source=/srv,target=/d", "folder of this host"),
        ("type=tmpfs,target=/d", "'tmpfs' is not known"),
        ("source=/srv,target=/d", "cannot name a volume"),
        ('source=db,"target=/d', "malformed"),
        ("source=db\ntarget=/d", "malformed"),
    ],
)
def test_mounts_that_are_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_mount(text, read_size=size)


def test_outer_targets_come_first() -> None:
    found = requests("cc:/a/b/c", "bb:/z", "aa:/a/b", mounts=("src=dd,dst=/a",), image=("/b/c",))
    assert [one.target for one in found] == ["/a", "/z", "/a/b", "/b/c", "/a/b/c"]


def test_what_the_command_line_names_stands_for_the_image_s_own() -> None:
    found = requests("db:/data/", "/cache", "/cache", image=("/data", "/cache", "log", "/log/"))
    assert {one.target: one.name for one in found} == {"/data": "db", "/cache": None, "/log": None}
    # Docker's clients send `-v PATH` as if the image had said it.
    assert requests("/data", "db:/data") == requests("db:/data")


@pytest.mark.parametrize(
    ("specifications", "mounts"),
    [
        (("aa:/data", "bb:/data/"), ()),
        (("aa:/data", "aa:/data"), ()),
        (("aa:/data",), ("src=bb,dst=/data",)),
        ((), ("dst=/data", "src=bb,dst=/data")),
    ],
)
def test_two_volumes_at_one_place_are_refused(specifications, mounts) -> None:
    with pytest.raises(UsageError, match="Two volumes"):
        requests(*specifications, mounts=mounts)


def test_one_volume_at_two_places_is_taken() -> None:
    assert [one.name for one in requests("aa:/one", "aa:/two:ro")] == ["aa", "aa"]


def test_more_than_an_adapter_has_room_for_are_refused() -> None:
    many = [f"vol{number}:/data/{number}" for number in range(MOST_VOLUMES + 1)]
    assert len(requests(*many[1:])) == MOST_VOLUMES
    with pytest.raises(UsageError, match="60 volumes"):
        requests(*many)


@pytest.mark.parametrize("path", ["/", "", "/proc/x"])
def test_an_image_s_volume_where_none_may_be(path: str) -> None:
    with pytest.raises(UsageError, match="No volume can be mounted"):
        requests(image=(path,))

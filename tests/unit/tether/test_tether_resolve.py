"""What runs: Docker's merging rules, one row per rule.

`moby` rows cite functions of github.com/moby/moby (daemon and container packages), `cli` rows those
of docker/cli, `runc` rows those of opencontainers/runc, `ref` rows the Dockerfile or run reference.
"""

from __future__ import annotations

import signal

import pytest

from agent.tether import resolve
from agent.tether.config import ImageConfig, RunConfig
from agent.tether.errors import CANNOT_START, StartError
from agent.tether.host_config import HostConfig

ARGUMENTS = [
    # id, image Entrypoint, image Cmd, run entrypoint, run args, expected
    ("ref: CMD alone is the command", (), ("sh",), None, None, ("sh",)),
    ("ref: ENTRYPOINT alone is the command", ("nginx",), (), None, None, ("nginx",)),
    ("ref: CMD gives ENTRYPOINT's arguments", ("echo",), ("a", "b"), None, None,
     ("echo", "a", "b")),
    ("ref: arguments replace CMD", ("echo",), ("a",), None, ("z",), ("echo", "z")),
    ("ref: arguments are the command without ENTRYPOINT", (), ("sh",), None, ("ls",), ("ls",)),
    ("moby merge: no arguments is like none given", ("echo",), ("a",), None, (), ("echo", "a")),
    ("ref: --entrypoint replaces ENTRYPOINT", ("echo",), (), ("ls",), ("/",), ("ls", "/")),
    ("ref: --entrypoint clears CMD", ("echo",), ("a",), ("ls",), None, ("ls",)),
    ("moby merge: --entrypoint keeps arguments", ("echo",), ("a",), ("ls", "-l"), ("b",),
     ("ls", "-l", "b")),
    ('cli parse: --entrypoint "" runs the arguments', ("echo",), ("a",), ("",), ("id",), ("id",)),
    ("moby merge: an entrypoint of [] keeps CMD", ("echo",), ("sh",), (), None, ("sh",)),
    ("moby merge: an entrypoint of [] with arguments", ("echo",), ("sh",), (), ("id",), ("id",)),
    ('moby mergeAndVerify: the image\'s [""] is none', ("",), ("sh",), None, None, ("sh",)),
    ("empty arguments stay", ("echo",), (), None, ("", ""), ("echo", "", "")),
    ("no shell: metacharacters are text", (), (), None, ("echo", "$HOME;ls"), ("echo", "$HOME;ls")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("entrypoint", "command", "run_entrypoint", "arguments", "expected"),
    [row[1:] for row in ARGUMENTS],
    ids=[row[0] for row in ARGUMENTS],
)
def test_arguments(entrypoint, command, run_entrypoint, arguments, expected):
    image = ImageConfig(entrypoint=entrypoint, command=command)
    run = RunConfig(entrypoint=run_entrypoint, arguments=arguments)
    assert resolve.resolve_arguments(image, run) == expected


@pytest.mark.parametrize(
    ("image", "run"),
    [
        pytest.param(ImageConfig(), RunConfig(), id="moby: no command specified"),
        pytest.param(
            ImageConfig(command=("sh",)), RunConfig(entrypoint=("",)), id='--entrypoint "" alone'
        ),
        pytest.param(ImageConfig(entrypoint=("",)), RunConfig(), id='the image has only [""]'),
    ],
)
def test_no_command(image, run):
    with pytest.raises(StartError, match="no command") as caught:
        resolve.resolve_arguments(image, run)
    assert (caught.value.kind, caught.value.code) == ("command", CANNOT_START)


PATH = f"PATH={resolve.DEFAULT_PATH}"
HOST = "HOSTNAME=h"
ENVIRONMENT = [
    # id, image Env, run env, tty, home, expected in this order
    ("moby CreateDaemonEnvironment: defaults", (), (), False, "/root",
     [PATH, HOST, "HOME=/root"]),
    ("moby: TERM only with a terminal", (), (), True, "/", [PATH, HOST, "TERM=xterm", "HOME=/"]),
    ("the image's variables follow", ("A=1",), (), False, "/", [PATH, HOST, "A=1", "HOME=/"]),
    ("the request's come before the image's", ("A=1",), ("B=2",), False, "/",
     [PATH, HOST, "B=2", "A=1", "HOME=/"]),
    ("the request wins", ("A=1",), ("A=2",), False, "/", [PATH, HOST, "A=2", "HOME=/"]),
    ("the image's PATH takes the default's place", ("PATH=/bin",), (), False, "/",
     ["PATH=/bin", HOST, "HOME=/"]),
    ("the request's PATH wins over both", ("PATH=/bin",), ("PATH=/x",), False, "/",
     ["PATH=/x", HOST, "HOME=/"]),
    ("HOSTNAME can be set", (), ("HOSTNAME=mine",), False, "/", [PATH, "HOSTNAME=mine", "HOME=/"]),
    ("TERM can be set", (), ("TERM=vt100",), True, "/", [PATH, HOST, "TERM=vt100", "HOME=/"]),
    ("cli: a bare name removes the image's", ("A=1",), ("A",), False, "/", [PATH, HOST, "HOME=/"]),
    ("moby Replace...: a bare name removes a default", (), ("PATH",), False, "/", [HOST, "HOME=/"]),
    ("moby Replace...: a bare name in the image, too", ("HOSTNAME",), (), False, "/",
     [PATH, "HOME=/"]),
    ("a bare name that nobody set", (), ("NOPE",), False, "/", [PATH, HOST, "HOME=/"]),
    ("an empty value is a value", (), ("A=",), False, "/", [PATH, HOST, "A=", "HOME=/"]),
    ("only the first = separates", (), ("A=b=c",), False, "/", [PATH, HOST, "A=b=c", "HOME=/"]),
    ("the last of equals wins", (), ("A=1", "A=2"), False, "/", [PATH, HOST, "A=2", "HOME=/"]),
    ("runc: HOME of the image stays", ("HOME=/data",), (), False, "/root",
     [PATH, HOST, "HOME=/data"]),
    ("runc: an empty HOME is none", ("HOME=",), (), False, "/root", [PATH, HOST, "HOME=/root"]),
    ("names are case-sensitive", ("path=/x",), (), False, "/", [PATH, HOST, "path=/x", "HOME=/"]),
    ("ours: =x has no name", ("=x",), (), False, "/", [PATH, HOST, "HOME=/"]),
    ("values are not expanded", ("A=$PATH",), (), False, "/", [PATH, HOST, "A=$PATH", "HOME=/"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("image_env", "run_env", "tty", "home", "expected"),
    [row[1:] for row in ENVIRONMENT],
    ids=[row[0] for row in ENVIRONMENT],
)
def test_environment(image_env, run_env, tty, home, expected):
    environment = resolve.resolve_environment(
        ImageConfig(environment=image_env),
        RunConfig(environment=run_env, tty=tty),
        host_name="h",
        home=home,
    )
    assert [f"{name}={value}" for name, value in environment.items()] == expected


@pytest.mark.parametrize(
    ("image_dir", "run_dir", "expected"),
    [
        pytest.param("", None, "/", id="ref: WORKDIR defaults to /"),
        pytest.param("/srv", None, "/srv", id="ref: WORKDIR of the image"),
        pytest.param("/srv", "/tmp", "/tmp", id="ref: -w wins"),
        pytest.param("/srv", "", "/srv", id="an empty -w is none"),
        pytest.param("srv", None, "/srv", id="an image's relative one starts at /"),
        pytest.param("/a/../b/./c/", None, "/b/c", id="moby: the path is cleaned"),
        pytest.param("", "//x", "/x", id="two slashes are one"),
        pytest.param("/../..", None, "/", id="nothing is above the root"),
    ],
)
def test_working_dir(image_dir, run_dir, expected):
    image, run = ImageConfig(working_dir=image_dir), RunConfig(working_dir=run_dir)
    assert resolve.resolve_working_dir(image, run) == expected


def test_relative_working_dir_of_the_request_is_refused():
    with pytest.raises(StartError, match="'x' is not an absolute path") as caught:
        resolve.resolve_working_dir(ImageConfig(), RunConfig(working_dir="x"))
    assert (caught.value.kind, caught.value.code) == ("workdir", CANNOT_START)


@pytest.mark.parametrize(
    ("image_user", "run_user", "expected"),
    [
        ("app", None, "app"),
        ("app", "", "app"),
        ("app", "0", "0"),
        ("", None, ""),
        ("", "u:g", "u:g"),
    ],
)
def test_user(image_user, run_user, expected):
    assert resolve.resolve_user(ImageConfig(user=image_user), RunConfig(user=run_user)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("SIGQUIT", signal.SIGQUIT),
        ("quit", signal.SIGQUIT),
        ("3", 3),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("RTMAX-1", signal.SIGRTMAX - 1),
        ("SIGWINCH", signal.SIGWINCH),
    ],
)
def test_stop_signal(text, expected):
    assert resolve.resolve_stop_signal(ImageConfig(stop_signal=text), RunConfig()) == expected


def test_the_request_s_stop_signal_wins():
    run = RunConfig(host=HostConfig(stop_signal="SIGINT"))
    assert resolve.resolve_stop_signal(ImageConfig(stop_signal="nonsense"), run) == signal.SIGINT


@pytest.mark.parametrize(
    "text", ["SIGNOPE", "0", "65", "-1", "SIG_IGN", "_DFL", "RTMIN+99", "SIGRTMAX+1"]
)
def test_what_is_no_stop_signal(text):
    with pytest.raises(StartError, match="is no signal"):
        resolve.resolve_stop_signal(ImageConfig(stop_signal=text), RunConfig())


@pytest.mark.parametrize(
    ("command", "path", "expected"),
    [
        pytest.param("ls", "/a:/b", ["/a/ls", "/b/ls"], id="each folder in order"),
        pytest.param("./ls", "/a", ["./ls"], id="a slash means a path"),
        pytest.param("/bin/ls", "/a", ["/bin/ls"], id="an absolute path"),
        pytest.param("ls", "/a::/b", ["/a/ls", "./ls", "/b/ls"], id="POSIX: empty is here"),
        pytest.param("ls", "", [], id="no PATH, no command"),
        pytest.param("ls", None, [], id="PATH removed"),
    ],
)
def test_command_candidates(command, path, expected):
    assert resolve.command_candidates(command, path) == expected

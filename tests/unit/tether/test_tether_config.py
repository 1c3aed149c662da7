"""The configuration document: what is accepted, and errors that name the field."""

from __future__ import annotations

import contextlib
import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tether import config
from agent.tether.errors import CANNOT_START, StartError

KEY = "00ff" * 16
DOCUMENT = {
    "schema": 1,
    "key": KEY,
    "channel": {"kind": "virtio-serial", "name": "org.saltflat.tether"},
    "root": {"uuid": "6F1C9A3E-1111-4222-8333-0123456789ab"},
    "hostname": "0123456789ab",
    "image": {
        "Entrypoint": ["/bin/app"],
        "Cmd": None,
        "Env": ["A=1"],
        "User": "app",
        "WorkingDir": "/srv",
        "StopSignal": "SIGQUIT",
        "ExposedPorts": {"80/tcp": {}},
    },
    "run": {
        "args": ["x"],
        "entrypoint": None,
        "env": ["B"],
        "user": None,
        "workdir": None,
        "tty": True,
        "stdin": False,
        "rows": 24,
        "cols": 80,
    },
}


def changed(path, value):
    document = copy.deepcopy(DOCUMENT)
    *parents, last = path.split(".")
    place = document
    for name in parents:
        place = place[name]
    place[last] = value
    return document


def parse(document):
    loaded = config.load_document(json.dumps(document).encode())
    return config.parse_connection(loaded), config.parse_job(loaded)


def test_whole_document():
    connection, job = parse(DOCUMENT)
    assert connection == config.Connection(
        bytes.fromhex(KEY), config.VirtioSerial("org.saltflat.tether")
    )
    assert job == config.Job(
        root_uuid="6f1c9a3e-1111-4222-8333-0123456789ab",
        host_name="0123456789ab",
        image=config.ImageConfig(
            entrypoint=("/bin/app",),
            command=(),
            environment=("A=1",),
            user="app",
            working_dir="/srv",
            stop_signal="SIGQUIT",
        ),
        run=config.RunConfig(
            arguments=("x",), environment=("B",), tty=True, stdin=False, rows=24, columns=80
        ),
    )


def test_serial_channel():
    connection, _ = parse(changed("channel", {"kind": "serial", "device": "/dev/ttyS0"}))
    assert connection.channel == config.Serial("/dev/ttyS0")


def test_smallest_job():
    document = changed("image", {})
    document["run"] = {}
    _, job = parse(document)
    assert (job.image, job.run) == (config.ImageConfig(), config.RunConfig())


def test_no_entrypoint_differs_from_an_empty_one():
    assert parse(changed("run.entrypoint", []))[1].run.entrypoint == ()
    assert parse(changed("run.entrypoint", None))[1].run.entrypoint is None


def test_volumes():
    assert parse(changed("volumes", None))[1].volumes == ()
    listed = [
        {"serial": "AB-12", "path": "/data"},
        {"serial": "cd", "path": "/data/x", "read_only": True, "copy": True, "later": 1},
    ]
    assert parse(changed("volumes", listed))[1].volumes == (
        config.Volume("ab-12", "/data"),
        config.Volume("cd", "/data/x", read_only=True, copy=True),
    )


def test_lone_string_is_a_list_of_one():
    assert parse(changed("image.Cmd", "top"))[1].image.command == ("top",)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", 0),
        ("schema", "1"),
        ("schema", True),
        ("schema", None),
        ("key", "00"),
        ("key", "zz" * 32),
        ("key", " " + KEY[1:]),
        ("key", None),
        ("channel", None),
        ("channel.kind", "tcp"),
        ("channel.name", ""),
        ("channel", {"kind": "serial", "device": "/dev/../etc/passwd"}),
        ("channel", {"kind": "vsock"}),
        ("channel", {"kind": "vsock", "port": -1}),
        ("channel", {"kind": "vsock", "port": 1 << 32}),
        ("channel", {"kind": "vsock", "port": 1, "listen": "yes"}),
        ("root", []),
        ("root.uuid", "6f1c9a3e"),
        ("root.uuid", 5),
        ("hostname", ""),
        ("hostname", "a b"),
        ("hostname", "x" * 65),
        ("hostname", "-a"),
        ("hostname", "a\n"),
        ("image", None),
        ("image.Entrypoint", 1),
        ("image.Env", [1]),
        ("image.Cmd", ["a\0b"]),
        ("image.User", 1000),
        ("image.WorkingDir", ["/"]),
        ("run", None),
        ("run.args", ["\ud800"]),
        ("run.args", {}),
        ("run.tty", 1),
        ("run.stdin", "yes"),
        ("run.rows", -1),
        ("run.cols", 65536),
        ("run.cols", True),
        ("run.rows", 1.5),
        ("run.user", 0),
        ("volumes", {}),
        ("volumes", ["x"]),
        ("volumes", [{"path": "/x"}]),
        ("volumes", [{"serial": "a b", "path": "/x"}]),
        ("volumes", [{"serial": "", "path": "/x"}]),
        ("volumes", [{"serial": "ab"}]),
        ("volumes", [{"serial": "ab", "path": "x"}]),
        ("volumes", [{"serial": "ab", "path": "/x", "read_only": 1}]),
        ("volumes", [{"serial": "ab", "path": "/x", "copy": "no"}]),
    ],
)
def test_error_names_the_field(field, value):
    with pytest.raises(StartError) as caught:
        parse(changed(field, value))
    assert (caught.value.kind, caught.value.code) == ("config", CANNOT_START)
    assert caught.value.message.startswith(f"config field {field}")


def test_error_never_shows_the_key():
    with pytest.raises(StartError) as caught:
        parse(changed("key", "5ec4e7"))
    assert "5ec4e7" not in caught.value.message


def test_newer_schema_is_refused():
    with pytest.raises(StartError, match="schema 2 is newer than this guest's 1"):
        config.load_document(json.dumps(changed("schema", 2)).encode())


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"\xff", b"[" * 100000, b" " * (config.MAX_DOCUMENT_BYTES + 1)]
)
def test_what_is_no_document(raw):
    with pytest.raises(StartError, match="config field document"):
        config.load_document(raw)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.sampled_from(sorted(DOCUMENT)), values)
def test_any_value_parses_or_is_a_start_error(name, value):
    with contextlib.suppress(StartError):
        parse(changed(name, value))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"port": 1024}, config.Vsock(2, 1024, listen=False)),
        ({"port": 5, "cid": 3, "listen": True}, config.Vsock(3, 5, listen=True)),
    ],
)
def test_vsock_channel(fields, expected):
    connection, _ = parse(changed("channel", {"kind": "vsock", **fields}))
    assert connection.channel == expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (None, config.OutputRules(1 << 20, 5.0, 10.0)),
        ({}, config.OutputRules()),
        (
            {"ring_bytes": 65536, "away_seconds": 0.5, "linger_seconds": 0},
            config.OutputRules(65536, 0.5, 0),
        ),
    ],
)
def test_output_rules(output, expected):
    assert config.parse_output({"output": output}) == expected


@pytest.mark.parametrize(
    ("output", "field"),
    [
        ([], "output"),
        ({"ring_bytes": 1}, "output.ring_bytes"),
        ({"ring_bytes": True}, "output.ring_bytes"),
        ({"away_seconds": -1}, "output.away_seconds"),
        ({"linger_seconds": "10"}, "output.linger_seconds"),
    ],
)
def test_output_rules_that_are_none(output, field):
    with pytest.raises(StartError, match=field):
        config.parse_output({"output": output})


def test_an_exec_takes_after_the_main_process():
    _, job = parse(DOCUMENT)
    run = config.parse_exec({"args": ["id"], "env": ["C=3"]}, job).run
    assert run == config.RunConfig(
        arguments=("id",), entrypoint=(), environment=("B", "C=3"), user=None, working_dir=None
    )
    message = {"args": ["id"], "user": "u", "workdir": "/w", "tty": True, "stdin": True, "rows": 1}
    run = config.parse_exec(message, job).run
    assert (run.user, run.working_dir, run.tty, run.stdin) == ("u", "/w", True, True)
    assert (run.rows, run.columns) == (1, None)


@pytest.mark.parametrize(
    "message",
    [
        *({}, {"args": []}, {"args": [1]}, {"args": ["a\0b"]}, {"args": ["id"], "tty": 1}),
        {"args": ["id"], "env": [None]},
        {"args": ["id"], "rows": 1 << 16},
    ],
)
def test_an_exec_that_is_none(message):
    _, job = parse(DOCUMENT)
    with pytest.raises(StartError, match=r"exec\."):
        config.parse_exec(message, job)


@pytest.mark.parametrize("message", [{}, {"path": 1}, {"path": "relative"}, {"path": "/a\0"}])
def test_a_copy_that_is_none(message):
    with pytest.raises(StartError, match=r"copy\.path"):
        config.parse_copy(message)

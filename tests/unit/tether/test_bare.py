"""The agent's own `socket`, `signal` and more: what they have is as the standard ones have it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import hmac
import signal
import socket
import subprocess
import sys

import pytest

from agent import bare_ctypes, bare_hashes, bare_signal, bare_socket, bare_tools


@pytest.mark.parametrize(("ours", "standard"), [(bare_socket, socket), (bare_signal, signal)])
def test_names_are_the_standard_modules(ours, standard):
    own = {"NAMES", "socket", "socketpair"}
    for name in sorted(set(ours.__all__) - own):
        mine, theirs = getattr(ours, name), getattr(standard, name)
        if isinstance(mine, int):
            assert mine == theirs, name
        else:
            assert callable(mine), name


def test_all_signals_have_their_names():
    # Two of the names are others' as well: an enumeration lists those apart.
    expected = {name[3:]: int(member) for name, member in signal.Signals.__members__.items()}
    assert expected == bare_signal.NAMES


def test_a_pair_talks_and_closes_at_the_end_of_its_block():
    first, second = bare_socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with first, second:
        assert (first.family, first.type) == (socket.AF_UNIX, socket.SOCK_SEQPACKET)
        first.send(b"x")
        assert second.recv(8) == b"x"
    assert (first.fileno(), second.fileno()) == (-1, -1)


def test_a_connection_is_taken(tmp_path):
    path = str(tmp_path / "line")
    with (
        bare_socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener,
        bare_socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller,
    ):
        listener.bind(path)
        listener.listen()
        caller.connect(path)
        taken, peer = listener.accept()
        with taken:
            assert isinstance(taken, bare_socket.socket)
            assert peer == ""
            taken.sendall(b"hello")
            assert caller.recv(8) == b"hello"


def test_none_brings_enumerations():
    ours = "bare_ctypes, bare_hashes, bare_json, bare_signal, bare_socket, bare_tools"
    program = f"import sys; from agent import {ours}; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-S", "-P", "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    theirs = {
        "collections",
        "contextlib",
        "ctypes",
        "enum",
        "functools",
        "hashlib",
        "hmac",
        "json",
        "re",
    }
    theirs |= {"json", "re", "selectors", "signal", "socket"}
    assert not theirs & set(run.stdout.split())


@pytest.mark.parametrize("size", [0, 1, 32, 64])
def test_hmac_is_the_standard_ones(size):
    key, text = bytes(range(size)), b"what is said"
    assert bare_hashes.hmac_sha256(key, text) == hmac.digest(key, text, "sha256")


def test_a_longer_key_is_refused():
    with pytest.raises(ValueError, match="65 bytes"):
        bare_hashes.hmac_sha256(bytes(65), b"")


def test_hashes_are_the_standard_ones():
    settings = {"key": b"k" * 32, "person": b"somebody", "digest_size": 16}
    assert (
        bare_hashes.blake2b(b"x", **settings).digest() == hashlib.blake2b(b"x", **settings).digest()
    )
    assert bare_hashes.compare_digest(b"a", b"a")
    assert not bare_hashes.compare_digest(b"a", b"b")


class _Leaving:
    """A context that notes its end in `seen`, and may swallow what comes, or raise."""

    def __init__(self, name, seen, *, swallows=False, raises=None):
        self.name, self.seen, self.swallows, self.raises = name, seen, swallows, raises

    def __enter__(self):
        return self.name

    def __exit__(self, kind, error, trace):
        self.seen.append((self.name, kind))
        if self.raises is not None:
            raise self.raises(self.name)
        return self.swallows


def life_of(module, plan, failure):
    """Return what happens when a stack of the `plan`'s contexts is left, with `failure` or none."""
    seen = []
    try:
        with module.ExitStack() as stack:
            for number, settings in enumerate(plan):
                assert stack.enter_context(_Leaving(number, seen, **settings)) == number
            stack.callback(seen.append, "called")
            if failure is not None:
                raise failure("it")
        end = "went on"
    except Exception as error:
        end = type(error), error.args
    return seen, end


PLANS = [
    [],
    [{}, {}],
    [{"swallows": True}, {}],
    [{}, {"swallows": True}],
    [{"raises": KeyError}, {}],
    [{}, {"raises": KeyError}],
    [{"swallows": True}, {"raises": KeyError}],
    [{"raises": OSError}, {"raises": KeyError}],
    [{"raises": OSError}, {"swallows": True}, {"raises": KeyError}],
]


@pytest.mark.parametrize("failure", [None, ValueError])
@pytest.mark.parametrize("plan", PLANS)
def test_a_stack_is_left_as_the_standard_one(plan, failure):
    assert life_of(bare_tools, plan, failure) == life_of(contextlib, plan, failure)


def test_a_stack_can_be_closed_early():
    seen = []
    stack = bare_tools.ExitStack()
    stack.callback(seen.append, 1)
    stack.close()
    stack.close()
    assert seen == [1]


def test_suppress_passes_others_on():
    with bare_tools.suppress(OSError, KeyError):
        raise FileNotFoundError
    with pytest.raises(ValueError, match="mine"), bare_tools.suppress(OSError):
        raise ValueError("mine")
    with bare_tools.suppress(OSError):
        pass


def test_the_c_library_is_called_as_by_the_standard_module():
    ours, theirs = bare_ctypes.CDLL(None, use_errno=True), ctypes.CDLL(None, use_errno=True)
    found = []
    for module, library in ((bare_ctypes, ours), (ctypes, theirs)):
        library.syscall.restype = module.c_long
        wrong = library.syscall(module.c_long(99_999), module.c_char_p(b"x")), module.get_errno()
        text = module.create_string_buffer(b"a\0b")
        at = module.addressof(text)
        length = library.strnlen(module.c_ulong(at), module.c_ulong(3))
        found.append((wrong, bytes(text), length, library.abs(module.c_int(-3))))
    assert found[0] == found[1] == ((-1, errno.ENOSYS), b"a\0b\0", 1, 3)
    assert not hasattr(ours, "no_such_function")


def test_a_broken_text_is_explained_where_nobody_has_loaded_json():
    program = (
        "from agent import bare_json\n"
        "try: bare_json.loads('[1,')\n"
        "except ValueError as error: print(type(error).__name__, error)"
    )
    run = subprocess.run(
        [sys.executable, "-S", "-P", "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert run.stdout == "JSONDecodeError Expecting value: line 1 column 4 (char 3)\n"


def test_a_function_is_called_by_its_address():
    library = ctypes.CDLL(None)
    address = ctypes.cast(library.labs, ctypes.c_void_p).value
    kind = bare_ctypes.CFUNCTYPE(bare_ctypes.c_long, bare_ctypes.c_long)
    assert kind(address)(-(1 << 40)) == 1 << 40

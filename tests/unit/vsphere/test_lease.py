"""A lease from its first state to its last. A fake one: the simulator's is ready at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from pyVmomi import vim, vmodl

from converter.errors import HypervisorError, IntegrityError, UnavailableError
from converter.vsphere import lease as lease_module
from converter.vsphere.faults import from_fault
from converter.vsphere.lease import Lease


class FakeConnection:
    """Has the properties of one lease, a state for each time that they are asked for."""

    def __init__(self, *states: dict[str, Any]) -> None:
        self._states = list(states)

    def properties(self, _thing: object, paths: Sequence[str]) -> dict[str, Any]:
        if paths == ["info"]:
            disk = SimpleNamespace(url="https://*/d", disk=True, importKey="/k", sslThumbprint="")
            other = SimpleNamespace(url="https://*/o", disk=False, importKey="/o", sslThumbprint="")
            return {"info": SimpleNamespace(entity="machine", deviceUrl=[other, disk])}
        state = self._states.pop(0)
        if "raise" in state:
            raise state["raise"]
        return state

    @contextmanager
    def doing(self, words: str) -> Iterator[None]:
        try:
            yield
        except vmodl.MethodFault as fault:
            raise from_fault(fault, doing=words) from fault

    @staticmethod
    def name_of(thing: object) -> str:
        return str(thing)


class FakeLease:
    """Notes what it is told."""

    def __init__(self, manifest: Sequence[Any] = ()) -> None:
        self.told: list[object] = []
        self.often = threading.Event()
        self._manifest = manifest

    def HttpNfcLeaseProgress(self, percent: int) -> None:  # noqa: N802 (the API's name)
        self.told.append(percent)
        if len(self.told) == 4:
            self.often.set()
        if len(self.told) == 2:
            raise vim.fault.Timedout  # one that is not heard does no harm

    def HttpNfcLeaseComplete(self) -> None:  # noqa: N802 (the API's name)
        self.told.append("complete")

    def HttpNfcLeaseAbort(self) -> None:  # noqa: N802 (the API's name)
        self.told.append("abort")

    def HttpNfcLeaseGetManifest(self) -> Sequence[Any]:  # noqa: N802 (the API's name)
        if not self._manifest:
            raise vmodl.fault.NotSupported
        return self._manifest


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(lease_module, "_FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(lease_module, "_ALIVE_SECONDS", 0.001)


READY = {"state": "ready"}


def ready(reference: FakeLease) -> Lease:
    return Lease(FakeConnection(READY), reference)  # type: ignore[arg-type]  # as far as it is used


def test_one_that_is_not_ready_is_waited_for():
    reference = FakeLease()
    connection = FakeConnection({"state": "initializing"}, {}, READY)
    lease = Lease(connection, reference)  # type: ignore[arg-type]  # as above
    assert lease.machine == "machine"
    assert lease.disk_url("/k") == ("https://*/d", None)
    assert reference.told == []


@pytest.mark.parametrize(
    ("state", "error", "cause"),
    [
        (
            {"state": "error", "error": vim.fault.InsufficientStorageSpace()},
            HypervisorError,
            "datastore-full",
        ),
        ({"raise": UnavailableError("gone", cause="unreachable")}, UnavailableError, "unreachable"),
    ],
)
def test_one_that_fails_is_given_up(state, error, cause):
    reference = FakeLease()
    with pytest.raises(error) as caught:
        Lease(FakeConnection(state), reference)  # type: ignore[arg-type]  # as above
    assert caught.value.cause == cause
    assert reference.told == ["abort"]


def test_the_server_hears_of_us_as_long_as_it_takes():
    reference = FakeLease()
    lease = ready(reference)
    with lease.kept_alive():
        lease.tell(40)
        assert reference.often.wait(20)
    count = len(reference.told)
    assert reference.told[0] == 0
    assert reference.told[3] == 40
    lease.complete()
    assert reference.told[count:] == [100, "complete"]


def test_what_was_received_is_held_to_what_was_sent():
    entry = SimpleNamespace(size=3, sha1="aa")
    assert ready(FakeLease([entry])).compare(3, "aa") is True
    assert ready(FakeLease()).compare(3, "aa") is False  # a server that keeps no account
    for size_bytes, sha1 in ((4, "aa"), (3, "ab")):
        with pytest.raises(IntegrityError):
            ready(FakeLease([entry])).compare(size_bytes, sha1)

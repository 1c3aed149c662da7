"""A machine's whole life on a simulated vCenter, with the real agent behind its serial port.

What is simulated: the vCenter (vcsim), the host (`vsphere_place.Guests`). What is real: the command
line, the concentrator and its relay, the protocol, the agent and the processes that it starts.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.host import client
from tests.integration.vcsim import vcsim
from tests.integration.vspc.simulated_esxi import concentrator
from tests.integration.vsphere_place import Place, guests, make_image

pytestmark = pytest.mark.integration

SERVER = "trap 'echo bye; exit 3' TERM; echo up; echo err >&2; while :; do echo on; sleep 0.1; done"


@pytest.fixture(scope="module")
def place(
    go_tools: Path, boot_media_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("v")
    image = make_image(folder / "layout")
    with vcsim(go_tools) as address:
        made = Place(address, folder, image, boot_media_store)
        relays = ("--relays", os.fspath(made.relays))
        with concentrator(folder, *relays, sockets=False) as server:
            host, port = server.address
            made = replace(made, serial=f"telnet://{host}:{port}")
            with guests(made, server.address):
                yield made


@pytest.mark.verbs("run", on="fake")
def test_run_is_the_process_with_its_output_and_its_exit_code(place):
    done = place("-q", "run", "--rm", place.image, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, "out\n"), done.stderr
    assert place.good("ps", "-a", "-q") == ""
    assert client_folders(place) == []


@pytest.mark.verbs(
    "run",
    "attach",
    "exec",
    "cp",
    "inspect",
    "ps",
    "stop",
    "logs",
    "wait",
    "start",
    "restart",
    "kill",
    "rm",
    on="fake",
)
def test_a_machine_in_the_background_from_its_start_to_its_removal(place, tmp_path):
    machine = place.good("run", "-d", "--name", "web", place.image, "sh", "-c", SERVER).strip()
    with place.begin("-q", "attach", "web") as attached:
        assert attached.stdout is not None
        # From here on it sees all: "up" too, if it was there before the process.
        assert attached.stdout.readline() in {"up\n", "on\n"}
        assert place("-q", "exec", "web", "sh", "-c", "exit 5").returncode == 5
        (tmp_path / "there").write_text("brought\n")
        place.good("cp", "-q", f"web:{tmp_path}/there", f"{tmp_path}/here")
        assert (tmp_path / "here").read_text() == "brought\n"
        shown = place.inspect("web")
        assert (shown["id"], shown["status"], shown["exit_code"]) == (machine, "running", None)
        assert place.good("ps", "--format", "{{.Names}} {{.State}}") == "web running\n"
        # From a host that has no keys, by the relay alone.
        apart = replace(place, others={"SALTFLAT_VSPC_RELAYS": ""})
        relay = f"unix:{place.relays}/relay.sock"
        assert apart.good("stop", "--relay", relay, "web") == "web\n"
        # The attached client, too, had the last byte and the end.
        assert attached.communicate(timeout=30)[0].endswith("bye\n")
        assert attached.returncode == 3
    log = place("-q", "logs", "web")
    assert log.stdout.startswith("up\non\n")
    assert log.stdout.endswith("on\nbye\n")
    assert log.stderr.endswith("err\n")
    assert place.good("ps", "-a", "--format", "{{.Names}} {{.ExitCode}}") == "web 3\n"
    assert place.good("wait", "web") == "3\n"
    # Again, with a fresh key, and its power cut.
    address = client.UnixAddress(place.relays / "relay.sock", "web")
    place.good("start", "web")
    client.until_started(address)
    place.good("restart", "web")
    client.until_started(address)
    place.good("kill", "web")
    assert place.inspect("web")["exit_code"] == 128 + signal.SIGKILL
    place.good("rm", "web")
    assert place.good("ps", "-a", "-q") == ""
    assert client_folders(place) == []


def client_folders(place: Place) -> list[str]:
    """Return the machines whose keys are still there."""
    return [path.name for path in (place.relays / "machines").iterdir()]

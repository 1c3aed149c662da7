"""Processes beside the main one through a relay: executions and copies, with a real guest end."""

from __future__ import annotations

import io
import os
import random
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent.host import (
    RequestError,
    Stdio,
)
from agent.host import client as clients
from agent.host.client.connection import Connection
from agent.host.relay.keys import read_key
from agent.wire import STDOUT
from tests.integration.relay_guest import Guest, Program
from tests.integration.relay_runs import (
    RelayProcess,
    logged,
    machine_folder,
    null,
    relayed,
    until,
)

pytestmark = pytest.mark.integration


def test_executions_have_their_own_streams_and_status():
    program = Program(out=b"main", ends=False)
    with relayed(program) as (relay, _guest, folder):
        in_r, in_w = os.pipe()
        out_r, out_w = os.pipe()
        os.write(in_w, b"echo me")
        os.close(in_w)
        with null() as nowhere:
            execution = clients.Execution(["7", "x"], env=["A=b"], stdin=True)
            status = clients.execute(relay.address, execution, Stdio(in_r, out_w, nowhere))
        os.close(out_w)
        assert status.code == 7
        assert os.read(out_r, 1000) == b"7 x\necho me"
        for descriptor in (in_r, out_r):
            os.close(descriptor)
        (told,) = [m for m in program.controls if m["type"] == "exec"]
        assert (told["args"], told["env"], told["process"]) == (["7", "x"], ["A=b"], 1)
        assert logged(folder, STDOUT) == b"main"
        assert clients.execute_detached(relay.address, clients.Execution(["0"])) is None


def test_an_execution_without_stdin_leaves_ours_alone():
    with relayed(Program(ends=False)) as (relay, _guest, _folder), null() as nowhere:
        in_r, in_w = os.pipe()
        os.write(in_w, b"for somebody else")
        os.close(in_w)
        stdio = Stdio(in_r, nowhere, nowhere)
        assert clients.execute(relay.address, clients.Execution(["6"]), stdio).code == 6
        assert os.read(in_r, 100) == b"for somebody else"
        os.close(in_r)


def test_what_is_refused_in_the_middle_is_told():
    """A size that no terminal has: the relay says so and ends the connection, and no other does."""
    with relayed(Program(ends=False)) as (relay, _guest, _folder), null() as nowhere:
        manners = clients.Manners(terminal_size=lambda: (-1, 80))
        with pytest.raises(RequestError, match="rows"):
            clients.attach(relay.address, Stdio(None, nowhere, nowhere), manners=manners)


def test_hundreds_of_executions_one_after_the_other_and_many_at_once():
    program = Program(ends=False)
    with relayed(program) as (relay, _guest, _folder), null() as nowhere:
        codes = []

        def execute(code):
            execution = clients.Execution([str(code)])
            codes.append(
                clients.execute(relay.address, execution, Stdio(None, nowhere, nowhere)).code
            )

        threads = [threading.Thread(target=execute, args=(n,)) for n in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        for code in range(200):
            execute(code)
        assert sorted(codes[:100]) == list(range(100))
        assert codes[100:] == list(range(200))


def test_an_execution_whose_client_leaves_goes_on_and_its_output_is_dropped():
    program = Program(ends=False)
    with relayed(program) as (relay, _guest, _folder):
        connection = Connection(relay.address)
        connection.ask({"type": "exec", "args": ["0"], "stdin": True})
        until(lambda: 1 in program.echoes)
        connection.close()
        until(lambda: 1 not in program.echoes)  # its stdin ended, and all its streams with it
        assert clients.describe(relay.address)["condition"] == "alive"


def test_an_execution_waits_for_the_guest_to_boot():
    with machine_folder() as (folder, line, key):
        relay = RelayProcess(folder, line)
        execution = clients.Execution(args=("5",))
        with null() as nowhere, ThreadPoolExecutor() as pool:
            stdio = Stdio(None, nowhere, nowhere)
            done = pool.submit(clients.execute, relay.address, execution, stdio)
            until(lambda: clients.describe(relay.address)["condition"] == "never-connected")
            assert not done.done()
            guest = Guest(line, key, Program(ends=False))
            assert done.result(60).code == 5
            guest.close()
        relay.kill()


def test_what_waits_for_a_guest_is_not_lost_when_that_was_started_anew():
    """A relay that was started again waits for the guest; the one that comes knows no session."""
    with relayed(Program(ends=False)) as (relay, guest, folder), ThreadPoolExecutor() as pool:
        until(lambda: clients.describe(relay.address)["started"])
        guest.close()
        relay.kill()
        relay.start()
        with null() as nowhere:
            stdio = Stdio(None, nowhere, nowhere)
            done = pool.submit(clients.execute, relay.address, clients.Execution(["5"]), stdio)
            with Connection(relay.address) as attached:
                attached.ask({"type": "attach"})
                for rows in range(1, 200):
                    attached.say({"type": "resize", "rows": rows, "cols": 80})
                clients.describe(relay.address)  # asked later, answered later
                program = Program(ends=False)
                another = Guest(guest.line, read_key(folder), program)
                assert done.result(20).code == 5
                until(lambda: {"type": "resize", "rows": 199, "cols": 80} in program.controls)
                another.close()


def test_copies_go_both_ways(tmp_path):
    class Copying(Program):
        """Answers copy-out with what copy-in brought."""

        kept = b""

        def start(self, endpoint, message):
            super().start(endpoint, message)
            self.echoes[message["process"]][1][:1] = b""
            if message["type"] == "copy-out":
                self.echoes[message["process"]][1][:] = self.kept
                self.echoes[message["process"]][2] = True

    program = Copying(ends=False)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "big").write_bytes(random.Random(1).randbytes(700_000))
    (tree / "link").symlink_to("big")
    with io.BytesIO() as out:
        with tarfile.open(fileobj=out, mode="w") as archive:
            archive.add(tree, arcname="tree")
        program.kept = out.getvalue()
    with relayed(program) as (relay, _guest, _folder):
        clients.copy_in(relay.address, str(tree), "/srv")
        clients.copy_out(relay.address, "/srv/tree", str(tmp_path / "copied"))
        asked = [m for m in program.controls if m["type"].startswith("copy")]
        assert [(m["type"], m["path"], m.get("shallow")) for m in asked] == [
            ("copy-out", "/srv", True),
            ("copy-in", "/srv", None),
            ("copy-out", "/srv/tree", True),
            ("copy-out", "/srv/tree", False),
        ]
    assert (tmp_path / "copied" / "big").read_bytes() == (tree / "big").read_bytes()
    assert (tmp_path / "copied" / "link").readlink().name == "big"

"""One client of machines, to be killed: python _lifecycle_client.py WORK SPEC VERB...

WORK is a soak's folder, SPEC a file with a machine's specification. The verbs are done one after
the other on the machine that `create` made, or on whichever is there.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
from contextlib import nullcontext, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from agent.host import client  # noqa: E402 - after the path
from agent.host.errors import RelayError  # noqa: E402 - after the path
from agent.host.stdio import Stdio  # noqa: E402 - after the path
from converter import events  # noqa: E402 - after the path
from converter.errors import SaltflatError  # noqa: E402 - after the path
from converter.machine.foreground import run_in_foreground  # noqa: E402 - after the path
from converter.machine.local import LocalMachines  # noqa: E402 - after the path
from converter.machine.machines import MachineRequest  # noqa: E402 - after the path
from converter.machine.spec_json import read_spec  # noqa: E402 - after the path


def main() -> None:
    """Do the verbs; what they refuse is no matter here."""
    faulthandler.register(signal.SIGUSR1)  # where it hangs, if it does
    work = Path(sys.argv[1])
    machines = LocalMachines(work / "state", accelerator="tcg")
    for verb in sys.argv[3:]:
        with suppress(SaltflatError, RelayError):
            do(verb, machines, work)


def do(verb: str, machines: LocalMachines, work: Path) -> None:
    """Do one verb on all machines. Raises SaltflatError, RelayError."""
    if verb in {"create", "run"}:
        request = MachineRequest(
            spec=read_spec(json.loads(Path(sys.argv[2]).read_bytes())),
            image="soak",
            image_digest="",
            store=work / "store",
            name="soak",
            auto_remove=verb == "run",
        )
        record = machines.create(request)
        if verb == "run":
            nowhere = os.open(os.devnull, os.O_WRONLY)
            seat = Stdio(None, nowhere, nowhere), client.Manners(fatal=client.UNANSWERED)
            run_in_foreground(machines, record, nullcontext(seat), monitor=events.ignore)
        return
    for record in machines.list():
        if verb == "start":
            machines.start(record.id)
        elif verb == "kill":
            machines.kill(record.id, signal.SIGKILL)
        elif verb == "remove":
            machines.remove(record.id, force=True)
        elif verb == "adopt":
            client.describe(machines.address(record.id))
        else:
            raise ValueError(verb)


if __name__ == "__main__":
    main()

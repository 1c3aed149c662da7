"""A relay as a process of its own, to be killed: python relay_process.py FOLDER LINE [JSON].

The JSON has the members of RelayOptions. Ends by itself when the guest knows that its status is
kept and has gone, as a supervisor would end it; with `"stay": true` not even then.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from agent.host.relay import Patience, RelayOptions, RelayServer  # noqa: E402 - after the path


def main() -> None:
    """Relay until the end."""
    folder, line = Path(sys.argv[1]), Path(sys.argv[2])
    members = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    stay = members.pop("stay", False)
    if "patience" in members:
        members["patience"] = Patience(**members["patience"])
    with RelayServer(folder, line, options=RelayOptions(**members)) as server:

        def look() -> None:
            machine = server.machine
            if machine.status is not None and not machine.line_connected and not stay:
                server.stop()

        server.call_every(0.05, look)
        server.run()


if __name__ == "__main__":
    main()

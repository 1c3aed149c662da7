"""The relay against its limits, part by part: scripts/bench relay.

Each part is a module in relay_parts with measure(rounds) -> a document of groups; groups of the
same name are put together. A part that needs a virtual machine says so in its module.
"""

from __future__ import annotations

from scripts.benches.relay_parts import in_vm, wire_alone

PARTS = (wire_alone.measure, in_vm.measure)


def run(rounds: int) -> dict[str, object]:
    """Measure every part `rounds` times; return their groups as one document."""
    groups: dict[str, dict[str, float]] = {}
    for measure in PARTS:
        for group, values in measure(rounds).items():
            groups.setdefault(group, {}).update(values)
    return {"rounds": rounds, **groups}

"""The import contract: which room may know which. A table of rules, checked on every module.

Imports inside functions and under TYPE_CHECKING count too: knowing a type is knowing the room.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.importing import Rule, imports

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("agent", "converter", "tinykernel")

RULES = {
    "guest": Rule(
        who=("agent.wire", "agent.tether"),
        only=(
            *("agent.wire", "agent.tether", "agent.values", "agent.hints"),
            *("agent.bare_socket", "agent.bare_signal", "agent.bare_json", "agent.bare_tools"),
            "agent.bare_hashes",
            "agent.bare_ctypes",
        ),
        why="they run in guests that have Python and nothing else",
    ),
    "guest-lean": Rule(
        who=("agent.wire", "agent.tether"),
        never=(
            *(
                "argparse",
                "array",
                "collections",
                "contextlib",
                "ctypes",
                "dataclasses",
                "enum",
                "functools",
            ),
            *("hashlib", "hmac", "inspect", "json", "logging", "pathlib", "random", "re", "shutil"),
            *("signal", "socket", "string", "subprocess", "tempfile", "textwrap", "threading"),
            *("traceback", "typing"),
        ),
        unless=("agent.tether.alone", "agent.tether.debug"),  # not in the usual boot image
        why="the agent has a budget of memory; others beside it have what is needed of these",
    ),
    "wire-alone": Rule(
        who=("agent.wire",),
        never=("agent.tether", "agent.host"),
        why="the protocol is used by both ends and knows neither",
    ),
    "wire-sans-io": Rule(
        who=("agent.wire",),
        never=("os", "io", "socket", "select", "selectors", "subprocess", "time", "asyncio"),
        why="bytes in, events out: clock, nonce and transport are arguments",
    ),
    "agent-below-converter": Rule(
        who=("agent",),
        never=("converter", "tinykernel"),
        why="image builders embed the agent alone",
    ),
    "vspc-sans-io": Rule(
        who=tuple(
            f"agent.host.vspc.{name}"
            for name in (
                *("c_telnet", "c_vspc", "telnet", "options", "session", "identity", "allow"),
                *("seam", "port", "moves", "line", "registry"),
            )
        ),
        never=("os", "io", "socket", "ssl", "select", "selectors", "subprocess", "time"),
        why="every road of a vMotion can be walked in a test without a socket or a clock",
    ),
    "vspc-alone": Rule(
        who=("agent.host.vspc",),
        only=("agent.host.vspc", "agent.host.errors", "agent.host.loop", "agent.host.transport"),
        why="it moves bytes and knows nothing of who speaks over them; users implement its seam",
    ),
    "rootfs-pure": Rule(
        who=("converter.rootfs",),
        never=("os", "io", "socket", "subprocess", "pathlib", "shutil", "tempfile", "mmap"),
        why="the file tree is a value; reading and writing belong to others",
    ),
    "ext4-no-disk": Rule(
        who=("converter.ext4",),
        never=("converter.vmdk", "converter.store", "converter.image", "converter.registry"),
        why="ext4 yields (block, bytes) writes to whoever wants them",
    ),
    "vmdk-no-file-system": Rule(
        who=("converter.vmdk",),
        never=("converter.ext4", "converter.rootfs", "converter.layer", "converter.image"),
        why="a disk format takes (offset, bytes), whatever they mean",
    ),
    "registry-no-disks": Rule(
        who=("converter.registry",),
        never=(
            *("converter.vmdk", "converter.ext4", "converter.rootfs", "converter.machine"),
            *("converter.image", "converter.store", "converter.artifact"),
        ),
        why="it knows HTTP, and bytes by their digests' names; what they mean is for others",
    ),
    "network-alone": Rule(
        who=("converter.network",),
        only=("converter.network", "converter.errors"),
        why="what is asked for of a network does not depend on machines, nor on how one is asked",
    ),
    "verify-apart": Rule(
        who=("tinykernel.verify",),
        never=(
            *("tinykernel.build", "tinykernel.userland", "tinykernel.media.build"),
            *("tinykernel.media.uki", "tinykernel.media.esp", "tinykernel.media.disk"),
            *("tinykernel.media.iso", "tinykernel.media.programs", "subprocess"),
            "converter.programs",
        ),
        why="a reader that shares code with its writer finds what the writer meant",
    ),
    "sbom-pure": Rule(
        who=("tinykernel.sbom",),
        never=("os", "io", "subprocess", "pathlib", "shutil", "tempfile", "time"),
        why="a bill of materials follows from what it tells of, and from nothing of the host",
    ),
    "oras-by-registry": Rule(
        who=PACKAGES,
        never=("oras",),
        unless=("converter.registry.oras_port",),
        why="what it does not check, and what it raises, must not get past one place",
    ),
    "artifact-makes-no-links": Rule(
        who=("converter.artifact",),
        never=("converter.rootfs", "converter.machine", "converter.package", "converter.groups"),
        why="it moves links that are made, and checks them; it makes none",
    ),
    "artifact-on-request": Rule(
        who=("converter",),
        never=("converter.artifact",),
        unless=("converter.artifact", "converter.cli", "converter.batch"),
        why="conversions know a cache by the interface in converter.linkcache alone",
    ),
    "vmx-pure": Rule(
        who=("converter.package.vmx",),
        never=("os", "io", "subprocess", "pathlib", "shutil", "tempfile", "time", "random"),
        why="what a file says follows from the machine, and from nothing of the host",
    ),
    "export-makes-no-links": Rule(
        who=("converter.export",),
        never=(
            *("converter.layer", "converter.rootfs", "converter.ext4", "converter.registry"),
            *("converter.artifact", "converter.groups", "subprocess"),
        ),
        why="it gives away chains that are made, and asks nobody for what lies beside them",
    ),
    "diskmap-pure": Rule(
        who=("converter.diskmap",),
        only=("converter.diskmap", "converter.drawing"),
        never=("os", "io", "subprocess", "pathlib", "shutil", "tempfile", "time", "random"),
        why="a picture follows from the map; reading a bundle for it is converter.survey's",
    ),
    "batch-plan-pure": Rule(
        who=tuple(
            f"converter.batch.{name}"
            for name in ("plan", "planning", "ready", "tally", "tags", "events", "progress")
        ),
        never=("os", "io", "subprocess", "pathlib", "time", "random", "threading"),
        why="a plan and what its tasks mean are the same whoever carries it out, and on paper",
    ),
    "batch-makes-no-links": Rule(
        who=("converter.batch",),
        never=("converter.rootfs", "converter.ext4", "converter.machine"),
        why="it has conversions done, by the one that everybody has",
    ),
    "batch-report-pure": Rule(
        who=("converter.batch.report",),
        only=(
            *("converter.batch.report", "converter.batch.plan", "converter.batch.events"),
            *("converter.batch.failure", "converter.drawing"),
        ),
        never=("os", "io", "subprocess", "pathlib", "shutil", "tempfile", "time", "random"),
        why="what is told of a batch follows from its events, whoever carried it out and where",
    ),
    "drawing-pure": Rule(
        who=("converter.drawing",),
        only=("converter.drawing",),
        never=("os", "io", "subprocess", "pathlib", "shutil", "tempfile", "time", "random"),
        why="what pictures have in common knows none of them",
    ),
    "provenance-pure": Rule(
        who=("converter.package.provenance", "converter.package.c_provenance"),
        never=("os", "io", "subprocess", "pathlib", "shutil", "tempfile", "time", "datetime"),
        why="the same export says the same of itself, whenever and wherever it is made",
    ),
    "policy-pure": Rule(
        who=("converter.policy",),
        only=("converter.policy", "converter.errors", "converter.image"),
        never=("os", "io", "subprocess", "pathlib", "time", "yaml"),
        why="what is allowed follows from the rules and the image, and from nothing of the host",
    ),
    "package-no-file-system": Rule(
        who=("converter.package",),
        never=("converter.ext4", "converter.rootfs"),
        why="packages are made of disks",
    ),
    "package-pure": Rule(
        who=tuple(
            f"converter.package.{name}"
            for name in ("c_ovf", "model", "descriptor", "properties", "manifest")
        ),
        never=("os", "io", "socket", "subprocess", "pathlib", "shutil", "tempfile", "time"),
        why="a descriptor follows from the package that it describes, and from nothing of the host",
    ),
    "one-voice": Rule(
        who=PACKAGES,
        never=("click", "rich"),
        unless=("converter.cli",),
        why="only the command line prints; the core emits events",
    ),
    "cli-on-top": Rule(
        who=PACKAGES,
        never=("converter.cli",),
        unless=("converter.cli",),
        why="nobody below depends on how a person calls us",
    ),
    "pipeline-order": Rule(
        who=("converter",),
        never=("converter.pipeline",),
        unless=(
            "converter.cli",
            "converter.pipeline",
            "converter.launch",
            "converter.batch",
            "converter.verification",
            "converter.library",
        ),
        why="rooms do not know the order in which they are used",
    ),
    "volume-no-machine": Rule(
        who=("converter.volume",),
        never=("converter.machine", "converter.image", "converter.pipeline", "agent"),
        why="machines have volumes; a volume knows who uses it by a note, not by asking",
    ),
    "bottom": Rule(
        who=("converter.errors", "converter.events", "converter.atomic", "converter.finding"),
        never=PACKAGES,
        why="everybody imports them",
    ),
    "programs-by-few": Rule(
        who=PACKAGES,
        never=("converter.programs",),
        unless=("converter.package.signing", "tinykernel.media.programs"),
        why="a room that needs no process must not come by one through another module",
    ),
    "vsphere-lazy": Rule(
        who=PACKAGES,
        never=("pyVmomi", "pyVim", "vsanapiutils"),
        unless=("converter.vsphere",),
        why="pyvmomi is an extra, and slow to load",
    ),
    "dask-by-cluster": Rule(
        who=PACKAGES,
        never=("dask", "distributed"),
        unless=("converter.batch.cluster",),
        why="Dask is an extra, and a batch of this host does without",
    ),
    "cluster-on-request": Rule(
        who=PACKAGES,
        never=("converter.batch.cluster",),
        unless=("converter.batch.cluster", "converter.cli"),
        why="it loads Dask; whoever names a scheduler asks for it",
    ),
    "vsphere-alone": Rule(
        who=("converter.vsphere",),
        only=(
            *("converter.vsphere", "converter.errors", "converter.events", "converter.atomic"),
            *("converter.finding", "converter.marked_yaml", "converter.sizes"),
            *("pyVmomi", "typing_extensions"),
        ),
        why="it knows a server; images, disks and machines are for whoever goes there",
    ),
    "machine-record-pure": Rule(
        who=("converter.machine.vsphere_record", "converter.vsphere.vm"),
        never=("os", "socket", "subprocess", "converter.vsphere.connection", "pyVmomi"),
        why="what stands on a machine can be read without a server",
    ),
    "vsphere-on-request": Rule(
        who=("converter",),
        never=("converter.vsphere",),
        unless=(
            *("converter.vsphere", "converter.machine", "converter.cli", "converter.batch"),
            "converter.template_import",
        ),
        why="whatever is made for vSphere is made without one",
    ),
    "supervisor-lean": Rule(
        who=tuple(
            f"converter.machine.{name}"
            for name in ("supervisor", "directory", "process_mark", "state")
        ),
        only=(
            *("agent.host", "converter.errors", "converter.atomic", "converter.machine.directory"),
            *("converter.machine.process_mark", "converter.machine.state"),
            "converter.machine.removal",  # when there is nothing left to be quick for
        ),
        why="every run waits for a supervisor to start",
    ),
    "machine-no-pipeline": Rule(
        who=("converter.machine",),
        never=("converter.layer", "converter.ext4", "converter.rootfs", "converter.registry"),
        why="machines are made of disks, however those came to be",
    ),
    "agent-host-by-machine": Rule(
        who=("converter",),
        never=("agent.host", "agent.tether"),
        unless=("converter.machine", "converter.cli"),
        why="the channel to a guest is a matter of machines",
    ),
}


def test_rules_hold() -> None:
    broken = [
        f"{importer}:{line} imports {imported}: broken rule {name!r}, since {rule.why}"
        for importer, path in _modules()
        for imported, line in imports(
            path.read_text(), importer, is_package=path.name == "__init__.py"
        )
        for name, rule in RULES.items()
        if not rule.allows(importer, imported)
    ]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("importer", "source", "broken"),
    [
        ("agent.wire.link", "import requests", {"guest"}),
        ("agent.wire.link", "from . import frames\nimport struct", set()),
        ("agent.tether.line", "from dataclasses import dataclass", {"guest-lean"}),
        ("agent.tether.line", "from agent.values import dataclass", set()),
        ("agent.tether.line", "from typing import List", {"guest-lean"}),
        ("agent.tether.line", "from agent.hints import List", set()),
        ("agent.tether.line", "import socket", {"guest-lean"}),
        ("agent.tether.line", "from agent import bare_socket as socket", set()),
        ("agent.wire.link", "def f():\n    import select", {"wire-sans-io"}),
        ("agent.wire.link", "from .. import host", {"wire-alone", "guest"}),
        ("agent.host.vspc.line", "import time", {"vspc-sans-io"}),
        ("agent.host.loop", "import select, time", set()),
        ("agent.host.vspc.sockets", "from agent.wire import Endpoint", {"vspc-alone"}),
        (
            "agent.tether.world",
            "from converter.errors import X",
            {"guest", "agent-below-converter"},
        ),
        ("converter.rootfs.tree", "from pathlib import Path", {"rootfs-pure"}),
        ("converter.rootfs.tree", "import os.path", {"rootfs-pure"}),
        ("converter.ext4.writer", "from ..vmdk import LinkWriter", {"ext4-no-disk"}),
        ("converter.vmdk.sparse", "from converter import ext4", {"vmdk-no-file-system"}),
        ("converter.diskmap.svg", "from pathlib import Path", {"diskmap-pure"}),
        ("converter.diskmap.svg", "from converter.vmdk.chain import Chain", {"diskmap-pure"}),
        ("converter.survey", "from converter.vmdk.chain import Chain", set()),
        ("converter.batch.report.page", "from converter.batch import local", {"batch-report-pure"}),
        ("converter.batch.planning", "import time", {"batch-plan-pure"}),
        ("converter.batch.work", "from converter.ext4 import writer", {"batch-makes-no-links"}),
        ("converter.drawing.text", "from converter.diskmap import svg", {"drawing-pure"}),
        ("converter.policy", "import yaml", {"policy-pure"}),
        ("converter.policy_file", "import yaml", set()),
        ("converter.package.provenance", "import datetime", {"provenance-pure"}),
        ("converter.package.descriptor", "import uuid, time", {"package-pure"}),
        ("converter.package.signing", "from converter.programs import run_to_end", set()),
        ("converter.export.vmx", "from converter.programs import run_to_end", {"programs-by-few"}),
        ("converter.pipeline", "import click", {"one-voice"}),
        ("tinykernel.verify.media", "from tinykernel.media import uki", {"verify-apart"}),
        ("tinykernel.sbom.spdx", "import time", {"sbom-pure"}),
        ("converter.cli.app", "import click, rich.progress", set()),
        ("converter.errors", "from converter.events import Event", {"bottom"}),
        ("converter.errors", "from __future__ import annotations\nimport errno", set()),
        ("converter.machine.qemu", "import pyVmomi", {"vsphere-lazy"}),
        ("converter.vsphere.connection", "from pyVmomi import vim", set()),
        ("converter.batch.local", "from distributed import Client", {"dask-by-cluster"}),
        ("converter.batch.cluster.connect", "from distributed import Client", set()),
        ("converter.vsphere.check", "from converter.vmdk import reader", {"vsphere-alone"}),
        ("converter.package.ovf", "from converter.vsphere import x", {"vsphere-on-request"}),
        ("converter.store.links", "from agent.host import relay", {"agent-host-by-machine"}),
        ("converter.volume.users", "from converter.machine import x", {"volume-no-machine"}),
        ("converter.machine.supervisor", "import click", {"one-voice", "supervisor-lean"}),
        ("converter.machine.directory", "from converter.vmdk import reader", {"supervisor-lean"}),
        ("converter.machine.local", "from converter.ext4 import writer", {"machine-no-pipeline"}),
        ("converter.export.disks", "from converter.ext4 import reader", {"export-makes-no-links"}),
        ("converter.export.kinds", "import converter.pipeline", {"pipeline-order"}),
        ("converter.package.vmx", "from pathlib import Path", {"vmx-pure"}),
        ("converter.registry.client", "import oras.provider", {"oras-by-registry"}),
        ("converter.registry.oras_port", "import oras.provider", set()),
        ("converter.pipeline", "from converter.artifact import cache", {"artifact-on-request"}),
        (
            "converter.artifact.cache",
            "from converter.pipeline import convert",
            {"pipeline-order"},
        ),
        ("converter.store.links", "if TYPE_CHECKING:\n    import converter.cli", {"cli-on-top"}),
    ],
)
def test_rules_bite(importer: str, source: str, broken: set[str]) -> None:
    found = {
        name
        for imported, _line in imports(source, importer)
        for name, rule in RULES.items()
        if not rule.allows(importer, imported)
    }
    assert found == broken


def _modules() -> Iterator[tuple[str, Path]]:
    """Yield the dotted name and file of each module of the product."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path

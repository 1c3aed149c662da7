"""Our side of the table: rows through run's own options into one booted guest, and what they saw.

Owns the machine that tests/cases/table_init.py runs in: the boot image with one more archive in
front of its files, and the converted image as its disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from converter.cli import run
from converter.cli.network_options import NetworkOptions
from converter.cli.run_options import OPTION_NAMES, read_options
from converter.errors import SaltflatError
from converter.identity import identity_of
from converter.launch import Root, root_of_bundle
from converter.machine.qemu_command import KERNEL_COMMAND_LINE, Accelerator, base_arguments
from converter.store.bundle import read_bundle
from tests.cases.observe import Sight, observe
from tests.cases.oracle import MEMORY_MIB
from tests.cases.rows import BASE, HOST_NAME, Row
from tests.images import cases, prepared
from tests.images.cache import ROOT
from tinykernel.cpio import directory, regular, write_newc

REFUSED = 125  # what docker run and ours exit with for what they refuse themselves
_SECONDS = 900  # where many others boot at the same time; alone it takes one tenth
_INIT = Path(__file__).with_name("table_init.py")
_BESIDE = tuple(Path(__file__).with_name(name) for name in ("lives.py", "observe.py"))


@dataclass(frozen=True)
class Fault:
    """A mistake in the agent: in one module, the text `old`, which is there once, becomes `new`.

    The row `shown_by` is run first, for it should see it; the base's, where none is named.
    """

    name: str
    module: str
    old: str
    new: str
    shown_by: str = BASE

    def source(self) -> str:
        """Return the whole wrong module."""
        text = (ROOT / "agent" / "tether" / f"{self.module}.py").read_text()
        assert text.count(self.old) == 1, f"{self.name}: {text.count(self.old)} places"
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Answers:
    """What the rows saw, by id, and for each fault what its rows saw with it."""

    rows: Mapping[str, Sight]
    faulty: Mapping[str, Mapping[str, Sight]]
    why: Mapping[str, str]


def document_of(row: Row, root_uuid: str, work: Path) -> dict[str, Any]:
    """Return the guest's document for a row, by way of run's own command line.

    Raises what the command raises for options that it refuses.
    """
    with _as_caller(row, work):
        context = run.command.make_context("run", [*row.flags, "image", *row.command])
        options = read_options(**{name: context.params[name] for name in OPTION_NAMES})
        names = NetworkOptions.__dataclass_fields__
        NetworkOptions(**{name: context.params[name] for name in names}).check()
    config = options.run_config(context.params["command"], terminal_size=row.size)
    return {
        "schema": 1,
        "root": {"uuid": root_uuid},
        "hostname": options.hostname or HOST_NAME,
        "image": {**cases.CONFIG, **row.image},
        "run": config.to_json(),
    }


def ask(
    rows: Sequence[Row],
    *,
    work: Path,
    faults: Sequence[Fault] = (),
    faulty_rows: Sequence[str] = (),
) -> Answers:
    """Boot one guest, run all rows in it, those of `faulty_rows` once more for each fault.

    Of the latter no more are run than it takes for one to see something else than without the
    fault; what that is worth is for the caller to say.
    """
    by_id = {row.id: row for row in rows}
    root = convert(work)
    uuid = str(UUID(bytes=identity_of(root.base_link_id).uuid))
    documents: dict[str, dict[str, Any]] = {}
    seen: dict[str, Sight] = {}
    why: dict[str, str] = {}
    for row in rows:
        try:
            documents[row.id] = document_of(row, uuid, work)
        except (SaltflatError, click.UsageError) as error:
            seen[row.id] = {"code": REFUSED}
            why[row.id] = str(error)
    lives = {
        row.id: {
            "document": documents.pop(row.id),
            "dialogue": row.dialogue,
            "makes": row.makes,
        }
        for row in rows
        if row.has_life and row.id in documents
    }
    wanted = {
        "root": uuid,
        "documents": documents,
        "lives": lives,
        "faults": [
            {
                "name": fault.name,
                "module": fault.module,
                "source": fault.source(),
                "rows": sorted(faulty_rows, key=lambda row: row != fault.shown_by),
            }
            for fault in faults
        ],
    }
    lines = _boot(wanted, root, work)
    faulty: dict[str, dict[str, Sight]] = {fault.name: {} for fault in faults}
    for line in lines:
        sight = _sight(by_id[line["row"]], line)
        if "fault" in line:
            faulty[line["fault"]][line["row"]] = sight
        else:
            seen[line["row"]] = sight
            why[line["row"]] = line.get("why") or line.get("stderr") or ""
    return Answers(seen, faulty, why)


def _sight(row: Row, line: Mapping[str, Any]) -> Sight:
    if "stdout" not in line:
        return {"code": line["code"]}
    seen = observe(
        line["stdout"].encode("latin-1"),
        code=line["code"],
        keep_machine_limits=row.keeps_machine_limits,
        by_terminal=row.has_terminal,
    )
    return {**seen, **line.get("told", {})}


def convert(work: Path) -> Root:
    """Return the image of the table as saltflat's own converter makes it."""
    bundle = work / "bundle"
    if not bundle.exists():
        source = f"oci:{cases.layout()}:latest"
        command = [*prepared.SALTFLAT, "convert", source, "--store", f"{work}/store"]
        command += ["-o", str(bundle)]
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            timeout=100,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    return root_of_bundle(read_bundle(bundle))


def _boot(wanted: Mapping[str, Any], root: Root, work: Path) -> list[dict[str, Any]]:
    (boot,) = (prepared.boot_store() / "boot").glob("*/boot.json")
    python = json.loads(boot.read_text())["python"]
    script = f"#!/usr/bin/python{python} -ISB\n" + _INIT.read_text()
    entries = [
        regular("init", script.encode(), 0o755),
        *(directory(name) for name in ("tests", "tests/cases")),
        *(regular(f"tests/cases/{path.name}", path.read_bytes()) for path in _BESIDE),
        regular("rows.json", json.dumps(wanted).encode()),
    ]
    # The kernel unpacks one archive after the other: what comes later is what stays.
    initrd, answers = work / "initrd", work / "answers"
    packed = (boot.parent / "initrd").read_bytes()
    extra = b"".join(write_newc(entries))
    initrd.write_bytes(packed + bytes(-len(packed) % 4) + extra)
    command = [
        *base_arguments(Accelerator("tcg", (7, 2)), boot.parent / "vmlinuz", initrd),
        *("-append", KERNEL_COMMAND_LINE),
        *("-m", str(MEMORY_MIB)),
        *("-chardev", f"file,id=answers,path={answers}"),
        *("-device", "isa-serial,chardev=answers,index=0"),
        *("-drive", f"file={root.disks[-1]},format=vmdk,if=none,id=root,snapshot=on"),
        *("-device", "pvscsi,id=scsi", "-device", "scsi-hd,bus=scsi.0,drive=root"),
    ]
    subprocess.run(command, check=True, cwd=work, timeout=_SECONDS, stdin=subprocess.DEVNULL)
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    if lines[-1:] != [{"end": True}]:
        raise RuntimeError("the guest broke off:\n" + (work / "console.log").read_text()[-4000:])
    return lines[:-1]


@contextlib.contextmanager
def _as_caller(row: Row, work: Path) -> Iterator[None]:
    """Be the caller that the row tells of: its environment, its folder."""
    folder = work / "caller"
    folder.mkdir(exist_ok=True)
    for name, text in row.files.items():
        (folder / name).write_text(text)
    before, place = dict(os.environ), Path.cwd()
    os.chdir(folder)
    os.environ.update(row.caller)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        os.chdir(place)

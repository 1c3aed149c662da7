"""Write a folder that VMware's desktop products open: chain, boot medium and .vmx file.

Owns the folder's files. The links hold what the image's links hold, but with every grain table in
place, as these products want them; on top is an empty link that the machine writes to, so that the
image's own stay what they are.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from converter.events import Monitor, StepFinished, StepStarted
from converter.export.companions import write_companions
from converter.export.disks import new_file, open_source
from converter.export.settings import Export
from converter.package.vmx import VmxMachine, encode_vmx
from converter.vmdk.descriptor import ParentRef
from converter.vmdk.reader import Kind, Link
from converter.vmdk.scratch import WritableWriter, write_scratch
from converter.vmdk.writing import put

_PIECE_BYTES = 1 << 20
_ZEROS = bytes(_PIECE_BYTES)


def write_vmx(export: Export, folder: Path, monitor: Monitor) -> None:
    """Fill `folder` with NAME.vmx, NAME.vmdk, NAME-link01.vmdk and so on, and NAME-boot.iso.

    Raises IntegrityError for a damaged link, OSError.
    """
    machine = export.machine
    if machine is None:
        raise AssertionError("an export of a machine without its settings")
    links = _write_links(export, folder, monitor)
    disk, top = f"{export.stem}.vmdk", links[-1]
    with new_file(folder / disk) as file:
        write_scratch(
            file,
            capacity_bytes=export.source.capacity_bytes,
            cid=top.cid,  # of the content, which is still the parent's
            parent=top,
            file_name=disk,
        )
    boot_iso = f"{export.stem}-boot.iso"
    shutil.copyfile(machine.boot_medium, folder / boot_iso)
    image = export.source.image
    text = encode_vmx(
        VmxMachine(
            name=export.stem,
            annotation=f"{image.reference}\n{image.digest}",
            firmware=machine.firmware.value,
            memory_mib=machine.memory_mib,
            processors=machine.processors,
            disk=disk,
            boot_iso=boot_iso,
            mac=machine.mac,
            serial=machine.serial,
            console_log=f"{export.stem}-console.log" if machine.serial_log else "",
            document=machine.document.decode("ascii"),
            has_key=machine.has_key,
        )
    )
    with new_file(folder / export.file_name, is_private=machine.has_key) as file:
        put(file, text)
    write_companions(export, folder, [*(link.file_name for link in links), disk], monitor)


def _write_links(export: Export, folder: Path, monitor: Monitor) -> list[ParentRef]:
    """Write the image's links, base first; return each as a child of it would name it."""
    written: list[ParentRef] = []
    with open_source(export.source) as chain:
        for number, link in enumerate(chain.links, 1):
            name = f"{export.stem}-link{number:02}.vmdk"
            monitor(StepStarted(name))
            with new_file(folder / name) as file:
                writer = WritableWriter(
                    file,
                    capacity_bytes=link.capacity_bytes,
                    grain_bytes=link.grain_bytes,
                    cid=link.descriptor.cid,
                    parent=written[-1] if written else None,
                    file_name=name,
                )
                _copy_link(link, writer)
                summary = writer.finish()
            monitor(StepFinished(name, f"{summary.size_bytes / 1e6:,.1f} MB"))
            written.append(ParentRef(link.descriptor.cid, name))
    return written


def _copy_link(link: Link, writer: WritableWriter) -> None:
    """Write what this one link says: its data, and the zeros that hide what is below."""
    link.sparse_extent()  # else it is none that a store or a bundle may have
    for piece in link.pieces(0, link.capacity_bytes):
        if piece.kind is Kind.ABSENT:
            continue
        for begin in range(0, piece.length, _PIECE_BYTES):
            size = min(_PIECE_BYTES, piece.length - begin)
            if piece.kind is Kind.ZERO:
                writer.write(piece.offset + begin, memoryview(_ZEROS)[:size])
                continue
            data = bytearray(size)
            part = piece._replace(
                offset=piece.offset + begin, length=size, position=piece.position + begin
            )
            link.read_data(part, memoryview(data))
            writer.write(part.offset, data)

"""The verb `boot verify`, and how the sizes of what is in a boot image are shown."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import click

from converter.cli.options import format_option, open_store, store_option
from converter.cli.output import Output
from converter.errors import IntegrityError, SaltflatError
from converter.store.bootimages import find_boot_folder
from converter.store.locks import using
from tinykernel.contents import PartSize
from tinykernel.verify.findings import Check, Fault
from tinykernel.verify.image import INITRAMFS, verify_boot_image
from tinykernel.verify.sizes import part_sizes


@click.command("verify")
@click.argument("image", metavar="[ID|KERNEL|FOLDER]", required=False)
@store_option
@format_option
@click.pass_obj
def verify(output: Output, *, image: str | None, store_root: Path) -> int:
    """Check a boot image, its contents and its media against its records; name each fault.

    IMAGE is an id in the store, the beginning of one, a kernel that only one image there has, or a
    folder with a slash in its name; without it, it is the one that machines start with. Checked are
    every file's digest, every file in the initramfs against the list of contents, the versions that
    are recorded, the bill of materials, and that each medium holds this kernel, initramfs and
    command line, and a signature where there was one. Exit code 5 means that something is wrong.
    Nothing is written. It finds damage; an image that somebody made up whole, records and all, is
    told by its digest in a registry.

    \b
    Examples:
      saltflat boot verify
      saltflat boot verify tiny
      saltflat boot verify ./boot-image --format json
    """
    with ExitStack() as stack:
        if image is not None and os.sep in image:
            folder = Path(image)
        else:
            store = open_store(store_root)
            stack.enter_context(using(store, monitor=output.monitor))
            folder = find_boot_folder(store, image)
        findings = list(verify_boot_image(folder, monitor=output.monitor))
        sizes = _sizes_if_readable(folder)
    checks = [found for found in findings if isinstance(found, Check)]
    faults = [found for found in findings if isinstance(found, Fault)]
    lines = []
    for check in checks:
        lines.append(f"{check.subject}: {check.summary}")
        if check.subject == INITRAMFS:
            lines += [f"  {line}" for line in size_lines(sizes)]
    lines += [f"{fault.subject}: {fault.what}\n    -> {fault.hint}" for fault in faults]
    lines.append(f"{folder}: {len(faults)} faults")
    output.result(
        "\n".join(lines),
        {
            "schema": 1,
            "target": str(folder),
            "checks": [{"subject": check.subject, "summary": check.summary} for check in checks],
            "faults": [
                {"subject": fault.subject, "what": fault.what, "hint": fault.hint}
                for fault in faults
            ],
            "parts": size_documents(sizes),
        },
    )
    return IntegrityError.exit_code if faults else 0


def size_lines(sizes: list[PartSize]) -> Iterator[str]:
    """Yield a line for each part of an initramfs."""
    for size in sizes:
        yield f"{size.part:<17}{size.files:>5} files {size.size_bytes:>12,} bytes"


def size_documents(sizes: list[PartSize]) -> list[dict[str, object]]:
    """Return the JSON of a size breakdown."""
    return [
        {"part": size.part.value, "files": size.files, "size_bytes": size.size_bytes}
        for size in sizes
    ]


def _sizes_if_readable(folder: Path) -> list[PartSize]:
    try:
        return part_sizes(folder)
    except (SaltflatError, OSError):
        return []  # which is among the faults

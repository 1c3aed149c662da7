"""Does the bill of materials tell of this image? Holds it against the records. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tinykernel.contents import Content
from tinykernel.record import INITRD_FILE, KERNEL_FILE, BootImage
from tinykernel.record import SBOM_FILE as _FILE
from tinykernel.sbom.spdx import COMPILER, variant


def bill_faults(
    image: BootImage, files: Mapping[str, bytes], contents: Sequence[Content] | None
) -> Iterator[str]:
    """Yield where the bill in `files` differs from boot.json, the files, the list of contents."""
    try:
        document = json.loads(files[_FILE])
        listed = {item["fileName"]: _sha256(item) for item in document["files"]}
        packages = {
            (item["name"], item["versionInfo"], _sha256(item))
            for item in document["packages"]
            if "checksums" in item
        }
        about = document["documentNamespace"].rpartition("-")[2]
        comments = {item.get("comment") for item in document["packages"]}
        compilers = [i["versionInfo"] for i in document["packages"] if i["name"] == COMPILER]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        yield f"it is no bill of materials: {error!r}"
        return
    if about != image.id:
        yield f"it is about the image {about}"
    if variant(image.kernel_flavour, debug=image.debug) not in comments:
        yield f"it does not tell of the image {image.name}"
    if compilers != ([] if image.compiled_by is None else [image.compiled_by]):
        yield f"it does not tell of bytecode by CPython {image.compiled_by}"
    if packages != {(each.name, each.version, each.sha256) for each in image.packages}:
        yield "its packages are not those of boot.json"
    wanted = {
        f"./{name}": hashlib.sha256(files[name]).hexdigest()
        for name in (KERNEL_FILE, INITRD_FILE)
        if name in files
    }
    for content in contents or ():
        if content.sha256 is not None:
            wanted[f"./{INITRD_FILE}/{content.path}"] = content.sha256
    for name, sha256 in sorted(wanted.items()):
        if listed.get(name) != sha256:
            yield f"it does not tell of {name} as it is"


def _sha256(item: Mapping[str, Any]) -> str:
    return next(
        str(each["checksumValue"]) for each in item["checksums"] if each["algorithm"] == "SHA256"
    )

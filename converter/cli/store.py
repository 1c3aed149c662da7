"""The verbs `store ls`, `store verify` and `store gc`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from converter.cli.moments import utc_second
from converter.cli.options import format_option, open_store, size, store_option
from converter.cli.output import Output
from converter.errors import IntegrityError, NotFoundError
from converter.events import Note
from converter.store.gc import collect_garbage
from converter.store.images import ImageRecord
from converter.store.inventory import ImageEntry, Inventory, Leftover, take_inventory
from converter.store.layout import Store
from converter.store.locks import using
from converter.store.verify import verify_store

_SHORT = 12  # digits of a digest or id in a table
_NUMBERS = frozenset({"LINKS", "OWN", "SHARED", "SIZE"})
Users = Mapping[str, tuple[ImageEntry, ...]]  # by link


@click.group("store")
def command() -> None:
    """Look at the store, check it, and clean it.

    \b
    Examples:
      saltflat store ls
      saltflat store gc --max-store-size 20G
    """


@command.command("ls")
@store_option
@format_option
@click.pass_obj
def list_store(output: Output, *, store_root: Path) -> int:
    """List images, links, blobs, boot images and leftovers, with sizes and who shares what.

    An image's own bytes are those of links that no other image uses. A leftover may belong to a
    conversion that is at work.

    \b
    Examples:
      saltflat store ls
      saltflat store ls --format json
    """
    store = open_store(store_root)
    inventory = take_inventory(store)
    users = inventory.images_by_link()
    output.result(_as_text(inventory, users), _as_document(store, inventory, users))
    return 0


@command.command("verify")
@store_option
@format_option
@click.pass_obj
def verify(output: Output, *, store_root: Path) -> int:
    """Read everything in the store again and name each fault: the exit code is then 5.

    Checked are disks and states against their records, blobs against their names, boot images,
    that chains are complete, and that nobody may write to what is finished. Nothing is changed.

    \b
    Examples:
      saltflat store verify
      saltflat store verify --format json
    """
    if not (store_root / "store.json").exists():  # opening would make one, in which all is sound
        raise NotFoundError(
            f"There is no store in {store_root}.",
            expected="a folder with store.json, as convert and boot build make it",
            hint="Name another one with --store or SALTFLAT_STORE.",
        )
    store = open_store(store_root)
    faults = []
    with using(store, monitor=output.monitor):
        inventory = take_inventory(store)
        for fault in verify_store(store, inventory, monitor=output.monitor):
            file = str(fault.path.relative_to(store.root))
            faults.append({"file": file, "what": fault.what, "hint": fault.hint})
    counts = f"{len(inventory.images)} images, {len(inventory.links)} links"
    counts += f", {len(inventory.blobs)} blobs, {len(inventory.boot_images)} boot images"
    lines = [f"{fault['file']}: {fault['what']}\n    -> {fault['hint']}" for fault in faults]
    lines.append(f"{counts}: {len(faults)} faults, {len(inventory.leftovers)} leftovers")
    output.result(
        "\n".join(lines),
        {
            "schema": 1,
            "images": len(inventory.images),
            "links": len(inventory.links),
            "blobs": len(inventory.blobs),
            "boot_images": len(inventory.boot_images),
            "faults": faults,
            "leftovers": [_leftover(store, leftover) for leftover in inventory.leftovers],
        },
    )
    return IntegrityError.exit_code if faults else 0


@command.command("gc")
@click.option(
    "--max-store-size",
    type=size,
    metavar="SIZE",
    envvar="SALTFLAT_MAX_STORE_SIZE",
    show_envvar=True,
    help="Also delete the least recently used images until the store is no larger than this.",
)
@click.option(
    "--keep-blobs",
    is_flag=True,
    envvar="SALTFLAT_KEEP_BLOBS",
    show_envvar=True,
    help="Keep the layers' blobs, so that another conversion need not fetch them again.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    envvar="SALTFLAT_DRY_RUN",
    show_envvar=True,
    help="Only say what would be deleted.",
)
@store_option
@format_option
@click.pass_obj
def collect(
    output: Output,
    *,
    max_store_size: int | None,
    keep_blobs: bool,
    dry_run: bool,
    store_root: Path,
) -> int:
    """Delete what no image in the store needs: links, blobs, boot images, leftovers.

    Waits for conversions at work; what a running machine uses stays. The exit code is 1 if the
    store could not be made as small as --max-store-size wants it.

    \b
    Examples:
      saltflat store gc --dry-run
      saltflat store gc --max-store-size 20G
    """
    store = open_store(store_root)
    plan = collect_garbage(
        store,
        max_store_bytes=max_store_size,
        keep_blobs=keep_blobs,
        dry_run=dry_run,
        monitor=output.monitor,
    )
    images = [image.record.reference for image in plan.images if image.record is not None]
    lines = [f"image {reference}" for reference in images]
    lines += [f"link {link.link_id}" for link in plan.links]
    lines += [f"blob {blob.digest}" for blob in plan.blobs]
    lines += [f"boot image {image.id}" for image in plan.boot_images]
    lines += [f"{left.kind} {left.path.relative_to(store.root)}" for left in plan.leftovers]
    freed = plan.before_bytes - plan.after_bytes
    verb = "would be freed" if dry_run else "freed"
    lines.append(f"{freed:,} bytes {verb}, {plan.after_bytes:,} bytes stay")
    fits = max_store_size is None or plan.after_bytes <= max_store_size
    if not fits:
        note = f"the store stays larger than {max_store_size:,} bytes: the rest is in use"
        output.monitor(Note(note, warning=True))
    output.result(
        "\n".join(lines),
        {
            "schema": 1,
            "dry_run": dry_run,
            "images": [image.path.stem for image in plan.images],
            "links": [link.link_id for link in plan.links],
            "blobs": [blob.digest for blob in plan.blobs],
            "boot_images": [image.id for image in plan.boot_images],
            "leftovers": [_leftover(store, leftover) for leftover in plan.leftovers],
            "before": plan.before_bytes,
            "after": plan.after_bytes,
            "fits": fits,
        },
    )
    return 0 if fits else 1


@dataclass(frozen=True, slots=True)
class _Shares:
    """What the links of one image take: those that it alone uses, and the others. In bytes."""

    own: int
    shared: int


def _shares(inventory: Inventory, users: Users) -> dict[Path, _Shares]:
    """Return the shares of every image, by its record."""
    own: Counter[Path] = Counter()
    shared: Counter[Path] = Counter()
    for identity, images in users.items():
        for image in images:
            side = own if len(images) == 1 else shared
            side[image.path] += inventory.links[identity].size_bytes
    return {image.path: _Shares(own[image.path], shared[image.path]) for image in inventory.images}


def _as_text(inventory: Inventory, users: Users) -> str:
    """Return the tables of `store ls`; rooms that are empty have none."""
    shares = _shares(inventory, users)
    tables = [
        _table(
            ("IMAGE", "DIGEST", "LINKS", "OWN", "SHARED", "LAST USED", ""),
            [
                (
                    image.record.reference,
                    _short(image.record.digest),
                    str(len(image.record.links)),
                    f"{shares[image.path].own:,}",
                    f"{shares[image.path].shared:,}",
                    utc_second(image.used_ns),
                    _state(inventory, image.record),
                )
                if image.record
                else (image.path.stem[:_SHORT], *[""] * 4, utc_second(image.used_ns), "unreadable")
                for image in inventory.images
            ],
        ),
        _table(
            ("LINK", "PARENT", "SIZE", "USED BY"),
            [
                (
                    link.link_id[:_SHORT],
                    link.record.parent[:_SHORT] if link.record else "unreadable",
                    f"{link.size_bytes:,}",
                    " ".join(_used_by(users.get(link.link_id, ()))) or "no image",
                )
                for link in inventory.links.values()
            ],
        ),
        _table(
            ("BLOB", "SIZE"),
            [(_short(blob.digest), f"{blob.size_bytes:,}") for blob in inventory.blobs.values()],
        ),
        _table(
            ("BOOT IMAGE", "SIZE", ""),
            [
                (image.id[:_SHORT], f"{image.size_bytes:,}", "default" if image.default else "")
                for image in inventory.boot_images
            ],
        ),
        _table(
            ("LEFTOVER", "SIZE", "KIND"),
            [(left.path.name, f"{left.size_bytes:,}", left.kind) for left in inventory.leftovers],
        ),
        f"{inventory.size_bytes:,} bytes in all",
    ]
    return "\n\n".join(filter(None, tables))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows in columns, numbers to the right; nothing at all without rows."""
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    numbers = {number for number, name in enumerate(head) if name in _NUMBERS}
    lines = []
    for row in (head, *rows):
        cells = [
            cell.rjust(width) if number in numbers else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _short(digest: str) -> str:
    return digest.partition(":")[2][:_SHORT]


def _used_by(images: Iterable[ImageEntry]) -> Iterator[str]:
    """Yield the images' digests, short, as the images' own table has them."""
    for image in images:
        if image.record is not None:
            yield _short(image.record.digest)


def _state(inventory: Inventory, image: ImageRecord) -> str:
    if not inventory.is_complete(image):
        return "incomplete"
    return "in use" if image.links[-1] in inventory.pinned else ""


def _as_document(store: Store, inventory: Inventory, users: Users) -> dict[str, object]:
    """Return the JSON of `store ls`. Sizes are bytes."""
    shares = _shares(inventory, users)
    return {
        "schema": 1,
        "store": str(store.root),
        "size": inventory.size_bytes,
        "images": [
            _image_document(image, inventory, shares[image.path]) for image in inventory.images
        ],
        "links": [
            {
                "link_id": link.link_id,
                "parent": link.record.parent if link.record else None,
                "empty": link.record.empty if link.record else None,
                "layers": list(link.record.diff_ids) if link.record else None,
                "size": link.size_bytes,
                "images": [image.path.stem for image in users.get(link.link_id, ())],
            }
            for link in inventory.links.values()
        ],
        "blobs": [
            {"digest": blob.digest, "size": blob.size_bytes} for blob in inventory.blobs.values()
        ],
        "boot_images": [
            {
                "id": image.id,
                "size": image.size_bytes,
                "default": image.default,
                "in_use": image.id in inventory.pinned,
            }
            for image in inventory.boot_images
        ],
        "leftovers": [_leftover(store, leftover) for leftover in inventory.leftovers],
    }


def _image_document(image: ImageEntry, inventory: Inventory, shares: _Shares) -> dict[str, object]:
    record = image.record
    return {
        "name": image.path.stem,
        "reference": record.reference if record else None,
        "digest": record.digest if record else None,
        "platform": record.platform if record else None,
        "capacity": record.parameters.capacity_bytes if record else None,
        "links": list(record.links) if record else None,
        "complete": record is not None and inventory.is_complete(record),
        "in_use": record is not None and record.links[-1] in inventory.pinned,
        "last_used": utc_second(image.used_ns),
        "size": shares.own + shares.shared,
        "own": shares.own,
        "shared": shares.shared,
    }


def _leftover(store: Store, leftover: Leftover) -> dict[str, object]:
    file = str(leftover.path.relative_to(store.root))
    return {"file": file, "kind": leftover.kind.value, "size": leftover.size_bytes}

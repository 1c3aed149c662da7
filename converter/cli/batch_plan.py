"""A batch's plan for people and for programs: what --dry-run shows."""

from __future__ import annotations

from dataclasses import asdict

from converter.batch.plan import Plan, PlannedImage, Whereabouts
from converter.batch.report.documents import failure_document, outputs_document

SCHEMA = 1


def plan_lines(plan: Plan) -> list[str]:
    """Return the plan, for people."""
    lines = [_image_line(plan, image) for image in plan.images]
    figures = plan.figures
    lines += [
        f"images:    {figures.images}",
        f"blobs:     {figures.blobs}, of which {figures.fetch_blobs} to fetch: "
        f"{figures.fetch_bytes:,} bytes",
        f"links:     {figures.links}, of which {figures.convert_links} to make"
        + (f", {figures.cached_links} in the cache" if figures.cached_links else ""),
        f"shared:    {figures.shared_bytes:,} bytes that images alone would handle again",
        f"disk:      about {figures.disk_bytes:,} bytes in the store",
    ]
    outputs = [task for task in plan.tasks if task.output >= 0]
    if outputs:
        kinds = dict.fromkeys(task.kind for task in outputs)
        counts = ", ".join(
            f"{sum(task.kind is kind for task in outputs)} {kind.value}" for kind in kinds
        )
        lines.append(f"outputs:   {counts}")
    return lines


def plan_document(plan: Plan) -> dict[str, object]:
    """Return the plan as JSON has it (docs/schema/batch-plan.json)."""
    numbers = {task.id: number for number, task in enumerate(plan.tasks)}
    return {
        "schema": SCHEMA,
        "images": [
            {
                "line": image.line,
                "reference": image.reference,
                "digest": image.digest or None,
                "platform": image.platform,
                "links": list(image.links),
                "outputs": outputs_document(image.outputs),
                "failure": failure_document(image.failure) if image.failure else None,
            }
            for image in plan.images
        ],
        "blobs": [
            {"digest": blob.digest, "size": blob.size_bytes, "here": blob.is_here}
            for blob in plan.blobs.values()
        ],
        "links": [
            {
                "key": link.key,
                "parent": link.parent,
                "layers": list(link.diff_ids),
                "blobs": list(link.blobs),
                "where": link.where.value,
            }
            for link in plan.links.values()
        ],
        "tasks": [
            {
                "task": task.id,
                "kind": task.kind.value,
                "name": task.name,
                "needs": [numbers[need] for need in task.needs],
                "images": list(task.images),
                "cost": task.cost_bytes,
            }
            for task in plan.tasks
        ],
        "figures": asdict(plan.figures),
    }


def _image_line(plan: Plan, image: PlannedImage) -> str:
    if image.failure is not None:
        return f"{image.reference}  {image.platform}  fails: {image.failure.what}"
    make = sum(plan.links[key].where is Whereabouts.MISSING for key in image.links)
    count = len(image.links)
    state = f"{make} of {count} links to make" if make else f"{count} links, all there"
    outputs = "".join(f", {output.kind.value} {output.place}" for output in image.outputs)
    return f"{image.reference}  {image.digest}  {image.platform}  {state}{outputs}"

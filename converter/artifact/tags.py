"""Tags that a push may take: free ones, and those of what is replaced."""

from __future__ import annotations

from converter.artifact import c_artifact as c
from converter.artifact.manifest import parse_artifact
from converter.errors import UsageError
from converter.image import c_oci
from converter.registry.artifacts import ArtifactRepository

_CALLED = {c.CHAIN: "a chain", c.LINK: "a link", c.BOOT: "a boot image"}


def check_tag(repository: ArtifactRepository, tag: str, artifact_type: str) -> None:
    """Raise UsageError when the tag is that of something else than an artifact of that type.

    Registries offer no way to ask and to push in one.
    """
    answer = repository.manifest(tag, accept=c_oci.ACCEPTED_DOCUMENTS)
    if answer is None:
        return
    what = f"{repository.name}:{tag}"
    found = parse_artifact(answer.raw, what=what)
    if found is None or found.artifact_type != artifact_type:
        called = _CALLED[artifact_type]
        raise UsageError(
            f"{what} is there and is not {called}.",
            expected=f"a tag that is free, or that of {called}",
            hint="Name another tag, or none: what is pushed has its digest.",
        )

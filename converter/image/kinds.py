"""What a registry holds beside images. Owns the names by which messages tell a person what it is.

A registry takes anything that has a manifest. Media types and artifact types say what it is, and no
list of them is complete: what is not known is refused all the same, by its own name.
"""

from __future__ import annotations

from converter.errors import UsageError
from converter.image import c_oci as c
from converter.image.json_object import JsonObject, shown

# Beginnings of types of artifacts, configurations and layers, as their projects document them.
_KNOWN = {
    "application/vnd.saltflat.chain.": "a converted image's chain (see: saltflat pull)",
    "application/vnd.saltflat.link.": "a link of a saltflat cache",
    "application/vnd.cncf.helm.": "a Helm chart",
    "application/vnd.wasm.": "a WebAssembly module",
    "application/vnd.module.wasm.": "a WebAssembly module",
    "application/wasm": "a WebAssembly module",
    "application/vnd.dev.cosign.": "a cosign signature or attestation",
    "application/vnd.dev.sigstore.": "a sigstore signature or attestation",
    "application/vnd.cncf.notary.": "a Notary signature",
    "application/vnd.in-toto": "an in-toto attestation",
    "application/vnd.dsse.": "an attestation",
    "application/spdx": "a list of contents (SBOM)",
    "text/spdx": "a list of contents (SBOM)",
    "application/vnd.cyclonedx": "a list of contents (SBOM)",
    "application/vnd.syft": "a list of contents (SBOM)",
    "application/vnd.docker.plugin.": "a plugin of the Docker engine",
    "application/vnd.docker.ai.": "a Docker model",
    "application/vnd.cncf.model.": "a model",
    "application/vnd.ollama.": "an Ollama model",
    "application/vnd.buildkit.cacheconfig.": "a build cache of BuildKit",
    "application/vnd.cncf.flux.": "configuration for Flux",
    "application/vnd.cncf.openpolicyagent.": "a policy bundle",
    "application/vnd.docker.compose.": "a Compose project",
    "application/vnd.unknown.": "files that oras pushed",
}
_ENCRYPTED = "+encrypted"


def refuse_artifact(document: JsonObject) -> None:
    """Raise UsageError, which says what it is, for a manifest that is not that of an image."""
    artifact_type = document.optional_text("artifactType") or None
    config_type = document.child("config").text("mediaType")
    if artifact_type is not None and artifact_type not in c.CONFIG_TYPES:
        raise _artifact(document.what, artifact_type)
    layers = [layer.optional_text("mediaType") or "" for layer in document.children("layers")]
    if config_type in c.CONFIG_TYPES:
        # Signatures and attestations often claim an image's configuration, but no image's layers.
        strange = next((layer for layer in layers if _known(layer)), None)
        if strange is not None:
            raise _artifact(document.what, strange)
        return
    if config_type == c.EMPTY:
        raise _artifact(document.what, layers[0] if layers else config_type)
    raise _artifact(document.what, config_type)


def refuse_layer(layer_type: str, *, what: str) -> None:
    """Raise UsageError for a layer that is of no type that can be unpacked."""
    if layer_type in c.LAYER_TYPES:
        return
    if layer_type.endswith(_ENCRYPTED):
        raise UsageError(
            f"{what} has an encrypted layer ({shown(layer_type)}).",
            expected="layers that can be read without a key",
            hint="Decrypt it first: skopeo copy --decryption-key KEY SOURCE oci:DIR.",
        )
    raise UsageError(
        f"{what} has a layer of type {shown(layer_type)}.",
        expected="layers that are tar archives, plain or compressed by gzip or zstd",
    )


def _artifact(what: str, media_type: str) -> UsageError:
    known = _known(media_type)
    is_ = f"{known}, an artifact" if known else "an artifact"
    return UsageError(
        f"{what} is {is_} of type {shown(media_type)}, not a container image.",
        expected=f"a configuration of type {c.OCI_CONFIG} or {c.DOCKER_CONFIG}",
        hint="Name an image; artifacts have no root file system.",
    )


def _known(media_type: str) -> str | None:
    return next((kind for start, kind in _KNOWN.items() if media_type.startswith(start)), None)

"""Names of the image formats: OCI image specification 1.1 and Docker image manifest v2, schema 2.

Only names and numbers. Sources: image-spec media-types.md, annotations.md and image-layout.md;
distribution docs/spec/manifest-v2-2.md; containerd's list for the Docker zstd layer.
"""

from __future__ import annotations

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"  # a configuration that is none: {}
DOCKER_MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_SCHEMA1_PREFIX = "application/vnd.docker.distribution.manifest.v1+"  # json or prettyjws

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_MANIFEST_LIST})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})
ACCEPTED_DOCUMENTS = (OCI_INDEX, OCI_MANIFEST, DOCKER_MANIFEST_LIST, DOCKER_MANIFEST)

LAYER_TAR = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
LAYER_NONDISTRIBUTABLE_PREFIX = "application/vnd.oci.image.layer.nondistributable.v1."
DOCKER_LAYER_TAR = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"
DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

# What registries may refuse to keep; descriptors name other places for it.
FOREIGN_LAYER_TYPES = frozenset(
    {
        LAYER_NONDISTRIBUTABLE_PREFIX + "tar",
        LAYER_NONDISTRIBUTABLE_PREFIX + "tar+gzip",
        LAYER_NONDISTRIBUTABLE_PREFIX + "tar+zstd",
        DOCKER_FOREIGN_LAYER,
    }
)
LAYER_TYPES = FOREIGN_LAYER_TYPES | {
    LAYER_TAR,
    LAYER_GZIP,
    LAYER_ZSTD,
    DOCKER_LAYER_TAR,
    DOCKER_LAYER_GZIP,
    DOCKER_LAYER_ZSTD,
}

ANNOTATION_REF_NAME = "org.opencontainers.image.ref.name"
ANNOTATION_CONTAINERD_NAME = "io.containerd.image.name"

LAYOUT_FILE = "oci-layout"
LAYOUT_VERSION = "1.0.0"
LAYOUT_INDEX = "index.json"
LAYOUT_BLOBS = "blobs"

# What `docker save` writes: moby image/tarexport, and containers/image docker/internal/tarfile.
DOCKER_ARCHIVE_MANIFEST = "manifest.json"
DOCKER_ARCHIVE_LEGACY = "repositories"  # all there was before docker 1.10

# "unknown" as operating system marks what is not an image: attestations beside the real ones.
UNKNOWN_OS = "unknown"

# distribution-spec: registries SHOULD take manifests up to 4 MiB; clients need no more.
MAX_DOCUMENT_BYTES = 4 << 20

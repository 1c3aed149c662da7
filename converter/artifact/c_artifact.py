"""Names of our artifacts: media types, annotations, tags, bounds. Only names and numbers.

The formats are ours (docs/formats.md, "Chains in a registry"); the names that are not are those of
the OCI image specification 1.1 (manifest.md, annotations.md) and the OCI distribution specification
1.1 ("Referrers Tag Schema").
"""

from __future__ import annotations

SCHEMA = 1

# The type of an artifact is the media type of its configuration as well: registries from before
# OCI 1.1 know no other.
CHAIN = "application/vnd.saltflat.chain.v1+json"
LINK = "application/vnd.saltflat.link.v1+json"
BOOT = "application/vnd.saltflat.boot.v1+json"  # the configuration is boot.json

# Not the image's own media types: registries would want to see the manifest pushed as a manifest,
# and its layers with it.
IMAGE_MANIFEST = "application/vnd.saltflat.image.manifest.v1+json"
IMAGE_CONFIG = "application/vnd.saltflat.image.config.v1+json"
DISK_PREFIX = "application/vnd.saltflat.disk.v1.vmdk"  # and the codec's suffix
STATE = "application/vnd.saltflat.state.v1"
BOOT_FILE = "application/vnd.saltflat.boot.file.v1"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
EMPTY_CONTENT = b"{}"

ANNOTATION_TITLE = "org.opencontainers.image.title"
ANNOTATION_CODEC = "vnd.saltflat.codec"
ANNOTATION_SIZE = "vnd.saltflat.content.size"
ANNOTATION_SHA256 = "vnd.saltflat.content.sha256"
ANNOTATION_LINK_ID = "vnd.saltflat.link.id"
ANNOTATION_PARENT = "vnd.saltflat.link.parent"
ANNOTATION_DIFF_IDS = "vnd.saltflat.link.diff-ids"  # separated by commas
ANNOTATION_PRODUCER = "vnd.saltflat.link.producer"
ANNOTATION_TOP = "vnd.saltflat.chain.top"
ANNOTATION_CAPACITY = "vnd.saltflat.chain.capacity"
ANNOTATION_JOURNAL = "vnd.saltflat.chain.journal"
ANNOTATION_WRITER = "vnd.saltflat.chain.writer-version"
ANNOTATION_LINKS = "vnd.saltflat.chain.links"
ANNOTATION_PLATFORM = "vnd.saltflat.chain.platform"

LINK_TAG_PREFIX = "link-"

# Types of documents that list what an image has, as their projects and those that attach them write
# them (SPDX 2.3 and CycloneDX 1.6, "media types"; cosign's SBOM_SPEC.md), and the endings of files
# by which both projects recognise their own.
SBOM_ENDINGS = {
    "application/spdx+json": ".spdx.json",
    "text/spdx+json": ".spdx.json",
    "application/spdx+xml": ".spdx.xml",
    "text/spdx+xml": ".spdx.xml",
    "text/spdx": ".spdx",
    "application/vnd.cyclonedx+json": ".cdx.json",
    "application/vnd.cyclonedx+xml": ".cdx.xml",
    "application/vnd.cyclonedx": ".cdx",
    "application/vnd.syft+json": ".syft.json",
}
MAX_SBOM_BYTES = 32 << 20  # of one; of all of an image twice as much
MAX_REFERRERS = 64  # whose manifests are read

MAX_LINKS = 160  # 31 disks, and what changes nothing of at most 127 layers
MAX_DOCUMENT_BYTES = 4 << 20  # a record, or an image's document
MAX_DISK_BYTES = 1 << 41  # where entries of 32 bits, in sectors, end
MAX_BOOT_FILE_BYTES = 1 << 30  # an ISO image has twice a kernel and an initramfs
MAX_STATE_BYTES = 256 << 20  # a few bytes for each file that a layer changes

"""Names of SPDX 2.3 as its JSON has them, and the public places of Debian's archive. Only names.

Sources: SPDX Specification 2.3; the interface of snapshot.debian.org, which keeps every version of
every package for good, also what the archive proper has replaced since.
"""

from __future__ import annotations

VERSION = "SPDX-2.3"
DATA_LICENCE = "CC0-1.0"
DOCUMENT_ID = "SPDXRef-DOCUMENT"
ID_PREFIX = "SPDXRef-"
NAMESPACE = "https://spdx.org/spdxdocs/saltflat-boot-"

DESCRIBES = "DESCRIBES"
CONTAINS = "CONTAINS"
GENERATED_FROM = "GENERATED_FROM"
EXPANDED_FROM_ARCHIVE = "EXPANDED_FROM_ARCHIVE"
BUILD_TOOL_OF = "BUILD_TOOL_OF"

# By the SHA-1 of the file; source packages have a page with all their files.
SNAPSHOT_FILE = "https://snapshot.debian.org/file/{sha1}"
SNAPSHOT_SOURCE = "https://snapshot.debian.org/package/{name}/{version}/"
PURL_BINARY = "pkg:deb/debian/{name}@{version}?arch={architecture}"
PURL_SOURCE = "pkg:deb/debian/{name}@{version}?arch=source"

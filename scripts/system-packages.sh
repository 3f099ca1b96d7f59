#!/bin/sh
# Install the system packages that blobfs and its tests need, or say how to. Silent when all is there.
#
# Exits 1 when something is missing and cannot be installed from here.
set -eu
cd "$(dirname "$0")/.."

python_packages() {
    # Where the distribution's own python3 is too old, 3.11 is the oldest that will do.
    if python3 -c 'import sys; sys.exit(sys.version_info >= (3, 11))' 2>/dev/null; then
        echo "python3.11 python3.11-dev python3.11-venv"
    else
        echo "python3 python3-dev python3-venv"
    fi
}

missing_packages() {
    command -v pkg-config >/dev/null || echo "pkg-config"
    command -v fusermount3 >/dev/null || echo "fuse3"
    # Without pkg-config nobody knows, and asking for what is there does no harm.
    pkg-config --exists fuse3 2>/dev/null || echo "libfuse3-dev"
    command -v cc >/dev/null || echo "gcc libc6-dev"
    scripts/find-python.sh >/dev/null || python_packages
    command -v node >/dev/null || echo "nodejs"
    command -v npm >/dev/null || echo "npm"
    # What tests let work on a mount.
    command -v git >/dev/null || echo "git"
    command -v make >/dev/null || echo "make"
    command -v rsync >/dev/null || echo "rsync"
}

missing=$(missing_packages | tr '\n' ' ')
if [ -z "$missing" ]; then
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    echo "system packages are missing, install what your system calls: $missing" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "system packages are missing, install them with:" >&2
    echo "    sudo apt-get install $missing" >&2
    exit 1
fi

echo "installing system packages: $missing"
apt-get -qq update
# shellcheck disable=SC2086  # a list of names
DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends $missing

still_missing=$(missing_packages | tr '\n' ' ')
if [ -n "$still_missing" ]; then
    echo "apt-get installed its packages, but this is still missing: $still_missing" >&2
    exit 1
fi

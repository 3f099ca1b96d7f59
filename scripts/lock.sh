#!/bin/sh
# Write the lock files anew, with the newest versions that pyproject.toml allows.
#
# They hold versions and hashes, no URL and no host: where packages come from is for the
# machine that installs them to say.
set -eu
cd "$(dirname "$0")/.."

lock_python() { # lock_python OUTPUT SOURCE...
    output=$1
    shift
    .venv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
        --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
        --output-file "$output" "$@"
}

lock_azurite() {
    cd tests/azurite
    npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund
    # Home pages for donations and licences are URLs too, and nothing that an install needs.
    node -e '
        const fs = require("fs"), lock = JSON.parse(fs.readFileSync("package-lock.json"));
        for (const entry of Object.values(lock.packages)) {
            delete entry.funding;
            delete entry.license;
        }
        fs.writeFileSync("package-lock.json", JSON.stringify(lock, null, 2) + "\n");'
}

# Each constrains the next, so that all three can be installed into one environment.
lock_python requirements/runtime.lock pyproject.toml
lock_python requirements/dev.lock -c requirements/runtime.lock pyproject.toml --group dev
lock_python requirements/build.lock -c requirements/dev.lock requirements/build.in
lock_azurite

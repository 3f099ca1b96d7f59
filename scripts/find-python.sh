#!/bin/sh
# Print the path of a Python that can build the environment: 3.11 or newer, with venv and headers.
#
# $PYTHON, when set, is the only candidate. Exits 1, silently, when there is none.
set -eu

usable() {
    "$1" - 2>/dev/null <<'EOF'
import ensurepip, pathlib, sys, sysconfig, venv
assert sys.version_info >= (3, 11)
assert pathlib.Path(sysconfig.get_path("include"), "Python.h").exists()
print(sys.executable)
EOF
}

for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3}; do
    if usable "$candidate"; then
        exit 0
    fi
done
exit 1

#!/bin/sh
# Run the long tests, or the parts of them that are named: fio stress python kills hammer models
# fuzz.
#
# The first three work on a mount of a folder. After each, everything is saved, and a machine that
# has never seen the bucket has to read the same. A part that fails does not keep the others from
# running. STRESS_S: seconds for each stressor. KILLS: how many daemons are killed, and how often the
# power is cut. HAMMER_S: seconds for which several mounts hammer one tree. MODELS: how many lives
# of a client. EXAMPLES: how many for each test that fuzzes.
#
# What was printed and logged stays in build/soak/, and a bucket that was read otherwise than it was
# written where it is. Exits 1 when something failed or is not installed.
set -eu
cd "$(dirname "$0")/.."

STRESS_S=${STRESS_S:-15}
KILLS=${KILLS:-200}
EXAMPLES=${EXAMPLES:-1000000}
MODELS=${MODELS:-5000}
HAMMER_S=${HAMMER_S:-3600}
STRESS_AT_MOST_S=300
PYTHON_TESTS="test_glob test_mmap test_os test_pathlib test_posix test_shutil test_sqlite3
    test_tarfile test_tempfile test_zipfile"
# Files that are not of the class, and what of the class has nothing to do with a mount: two that
# ask for file systems of their own, and one that takes fallocate for granted (docs/semantics.md).
ALSO_STRESSED="aio aiol readahead revio seek"
NOT_STRESSED=" bind-mount binderfs fsize "

bin=$PWD/.venv/bin
logs=$PWD/build/soak
place=$(mktemp -d "${TMPDIR:-/tmp}/blobfs-soak-XXXXXX")
mount=$place/mount
failed=0
kept=

say() { printf '%s\n' "$*"; }

fail() {
    say "FAILED: $*"
    failed=1
}

need() { # need PROGRAM PACKAGE
    command -v "$1" >/dev/null && return 0
    fail "$1 is not installed: apt-get install $2"
    return 1
}

as_machine() { # as_machine NAME COMMAND...: run blobfs with folders that only NAME knows
    machine=$place/$1
    shift
    mkdir -p -m 700 "$machine/state" "$machine/cache" "$machine/run"
    XDG_STATE_HOME=$machine/state XDG_CACHE_HOME=$machine/cache XDG_RUNTIME_DIR=$machine/run \
        "$bin/blobfs" "$@"
}

clean_up() {
    for machine in writer reader; do
        as_machine "$machine" unmount --force "$mount" >/dev/null 2>&1 || true
    done
    if [ -z "$kept" ] && ! mountpoint -q "$mount"; then
        rm -rf "$place"
    fi
}
trap clean_up EXIT
trap 'exit 130' INT TERM

digests() { # of everything below the mount
    (cd "$mount" && find . -printf '%p %y %m %U:%G %T@ %n %l\n' -type f -exec sha256sum {} + | sort)
}

on_a_mount() { # on_a_mount PART: run it, save, compare with what another machine reads
    rm -rf "$place/bucket" "$place/writer" "$place/reader"
    mkdir -p "$place/bucket" "$mount"
    as_machine writer mount "file://$place/bucket" "$mount" --read-write
    mkdir "$mount/work"
    "$1"
    digests >"$logs/$1.written"
    as_machine writer sync "$mount"
    as_machine writer unmount "$mount"
    as_machine reader mount "file://$place/bucket" "$mount" --read-only
    digests >"$logs/$1.read"
    as_machine reader unmount "$mount"
    for machine in writer reader; do
        cp "$place/$machine"/state/blobfs/*/daemon.log "$logs/$1.$machine.log"
    done
    cmp "$logs/$1.written" "$logs/$1.read" && return
    kept=$place
    fail "$1: another machine reads something else. What it read lies in $place"
}

fio_part() {
    fio --directory="$mount/work" --aux-path="$place" --output="$logs/fio.log" scripts/soak.fio ||
        fail "fio: see $logs/fio.log"
}

stress_part() {
    : >"$logs/stress.log"
    class=$(stress-ng --class 'filesystem?' | sed 's/^[^:]*: //')
    for stressor in $class $ALSO_STRESSED; do
        case $NOT_STRESSED in *" $stressor "*) continue ;; esac
        stress "$stressor" >>"$logs/stress.log" 2>&1 || fail "stress-ng --$stressor: see $logs/stress.log"
    done
}

stress() { # stress NAME: fails also for what was found and not counted as a failure
    printf '\n== %s\n' "$1"
    timeout -s KILL "$STRESS_AT_MOST_S" stress-ng --temp-path "$mount/work" "--$1" 2 \
        --timeout "$STRESS_S" --verify >"$logs/stressor.log" 2>&1
    outcome=$?
    cat "$logs/stressor.log"
    [ $outcome -eq 0 ] && ! grep -q ' fail: ' "$logs/stressor.log" && rmdir "$mount/work" &&
        mkdir "$mount/work"
}

python_part() {
    for name in $PYTHON_TESTS; do
        (cd "$place" && TMPDIR=$mount/work "$python" -m test --tempdir "$mount/work" "$name") \
            >"$logs/$name.log" 2>&1 || fail "$name: see $logs/$name.log"
    done
}

long_test() { # long_test FILE...: with chance and numbers from the environment
    "$bin/python" -m pytest -o faulthandler_timeout=0 "$@" || fail "$@"
}

kills_part() {
    BLOBFS_SOAK_KILLS=$KILLS BLOBFS_SOAK_CUTS=$KILLS long_test tests/e2e/test_kill.py \
        tests/e2e/test_power_cut.py
}

models_part() {
    BLOBFS_MODEL_EXAMPLES=$MODELS long_test tests/sync/test_model.py \
        tests/volume/test_namespace_model.py tests/model/test_reconcile_laws.py \
        tests/sync/test_another_tool.py tests/sync/test_many_random.py
}

hammer_part() {
    BLOBFS_SOAK_HAMMER_S=$HAMMER_S long_test tests/e2e/test_hammering.py
}

fuzz_part() {
    BLOBFS_SOAK_EXAMPLES=$EXAMPLES long_test tests/formats/test_fuzz.py
}

python_with_tests() {
    python=$("$bin/python" -c 'import sys; print(sys._base_executable)')
    "$python" -c 'import test.test_os' 2>/dev/null && return 0
    fail "$python has no tests of its own: apt-get install libpython3-testsuite"
    return 1
}

mkdir -p "$logs"
for part in ${*:-fio stress python kills hammer models fuzz}; do
    say "$part"
    case $part in
    fio) if need fio fio; then on_a_mount fio_part; fi ;;
    stress) if need stress-ng stress-ng; then on_a_mount stress_part; fi ;;
    python) if python_with_tests; then on_a_mount python_part; fi ;;
    kills) kills_part ;;
    models) models_part ;;
    hammer) hammer_part ;;
    fuzz) fuzz_part ;;
    *) fail "no such part: $part" ;;
    esac
done
exit $failed

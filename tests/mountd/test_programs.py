"""Programs that people use all day, on a real mount."""

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from blobfs.stores.memory import MemoryStore
from tests.contracts.kernel_files import KernelFiles, in_thread
from tests.mountd.mounted import mounted

pytestmark = [pytest.mark.mount, pytest.mark.slow]

SOURCES = Path(__file__).parents[2] / "blobfs"
"""A tree of ordinary files."""

NEUTRAL = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example",
}

SQLITE = """
import sqlite3, sys
for mode in ("delete", "wal"):
    database = sqlite3.connect(f"{mode}.db", isolation_level=None)
    database.execute(f"pragma journal_mode={mode}")
    database.execute("create table t (number integer, text text)")
    for first in range(0, 3000, 300):
        rows = [(number, "x" * (number % 500)) for number in range(first, first + 300)]
        database.execute("begin")
        database.executemany("insert into t values (?, ?)", rows)
        database.execute("commit" if first % 600 == 0 else "rollback")
    database.execute("vacuum")
    other = sqlite3.connect(f"{mode}.db")
    assert other.execute("pragma integrity_check").fetchone() == ("ok",)
    assert other.execute("select count(*) from t").fetchone() == (1500,)
"""


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[KernelFiles]:
    async with mounted(MemoryStore(), tmp_path, read_only=False) as files:
        yield files


async def run(files: KernelFiles, *command: str, within: str = ".") -> str:
    """Run a program in the mounted directory; it has to end well."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    folder = Path(os.fsdecode(files.root)) / within
    done = await in_thread(
        lambda: subprocess.run(
            command, cwd=folder, env=NEUTRAL, capture_output=True, text=True, check=False
        )
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


async def copy_sources(files: KernelFiles, name: str) -> Path:
    target = Path(os.fsdecode(files.root)) / name
    ignored = shutil.ignore_patterns("__pycache__")
    await in_thread(lambda: shutil.copytree(SOURCES, target, ignore=ignored))
    return target


async def test_git(files: KernelFiles) -> None:
    """It renames, links, locks, maps and syncs, and checks what it reads."""
    await copy_sources(files, "repo")
    await run(files, "git", "init", "-q", within="repo")
    for step in ("one", "two"):
        await files.write(b"repo/" + step.encode(), step.encode())
        await run(files, "git", "add", "-A", within="repo")
        await run(files, "git", "commit", "-q", "-m", step, within="repo")
    await run(files, "git", "clone", "-q", "repo", "clone")
    await run(files, "git", "gc", "-q", "--prune=now", within="clone")
    await run(files, "git", "fsck", "--strict", within="clone")
    assert await run(files, "git", "status", "--short", within="clone") == ""
    assert (await run(files, "git", "log", "--format=%s", within="clone")).split() == ["two", "one"]
    await run(files, "diff", "-r", "--exclude=.git", "repo", "clone")


async def test_sqlite(files: KernelFiles) -> None:
    """Both of its journals: one relies on renames and truncation, the other on shared memory."""
    await run(files, sys.executable, "-c", SQLITE)


async def test_tar(files: KernelFiles) -> None:
    """What is packed and unpacked is the same, modes and times included."""
    copy = await copy_sources(files, "tree")
    await files.symlink(b"cli/main.py", b"tree/link")
    await files.link(b"tree/env.py", b"tree/hard")
    await files.chmod(b"tree/env.py", 0o640)
    await run(files, "tar", "-cf", "tree.tar", "tree")
    await run(files, "mkdir", "out")
    await run(files, "tar", "-xf", "tree.tar", "-C", "out")
    await run(files, "diff", "-r", "tree", "out/tree")
    await run(files, "tar", "-df", "tree.tar")
    before, after = await files.stat(b"tree/env.py"), await files.stat(b"out/tree/env.py")
    assert (after.mode, after.nlink) == (before.mode, 2)
    assert before.mtime_ns // 10**9 == after.mtime_ns // 10**9
    assert copy.exists()


async def test_a_copy_of_everything(files: KernelFiles) -> None:
    """`cp -a` and `rm -rf`, which walk while they change."""
    await copy_sources(files, "tree")
    await run(files, "cp", "-a", "tree", "copy")
    await run(files, "diff", "-r", "tree", "copy")
    await run(files, "rm", "-rf", "tree")
    assert await files.listdir(b"") == [b"copy"]


async def test_rsync(files: KernelFiles) -> None:
    """The second run finds nothing to do: times, links and attributes are kept exactly."""
    await copy_sources(files, "tree")
    await files.setxattr(b"tree/env.py", "user.a", b"x")
    await files.link(b"tree/env.py", b"tree/hard")
    await run(files, "rsync", "-aHX", "--checksum", "tree/", "copy/")
    assert await run(files, "rsync", "-aHXi", "--checksum", "tree/", "copy/") == ""


async def test_python(files: KernelFiles) -> None:
    """Compiled modules are written beside their sources, and used."""
    await copy_sources(files, "blobfs")
    await run(files, sys.executable, "-m", "compileall", "-q", "blobfs")
    await run(files, sys.executable, "-c", "import blobfs.types; assert blobfs.types.__cached__")


async def test_a_build_in_c(files: KernelFiles) -> None:
    """Compilers map what they read, linkers what they write, and the result has to run."""
    for name, text in (
        (b"main.c", b"int f(void); int main(void) { return f(); }"),
        (b"f.c", b"int f(void) { return 0; }"),
    ):
        await files.write(name, text)
    for name in ("main", "f"):
        await run(files, "cc", "-c", f"{name}.c", "-o", f"{name}.o")
    await run(files, "ar", "rcs", "libf.a", "f.o")
    await run(files, "cc", "main.o", "-L.", "-lf", "-o", "program")
    await run(files, "sh", "-c", "./program")

"""Programs that people use do their work on a mount, and another machine finds what they made.

Each test runs a program with a mount below it and judges what it did. Then everything is saved,
and the bucket is mounted with empty folders, as a machine does that has never seen it: names,
contents, modes, times, links and extended attributes have to be the same.
"""

import importlib.metadata
import mmap
import os
import shutil
import sys
import sysconfig
import textwrap
import zipfile
from pathlib import Path

import pytest

from tests.e2e.cli import Home
from tests.e2e.programs import at_once, run, volume
from tests.e2e.trees import differing, seen
from tests.servers import S3Server

pytestmark = [pytest.mark.mount, pytest.mark.slow]

GIT_SETTINGS = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
GIT_SETTINGS += ("-c", "init.defaultBranch=main", "-c", "gc.auto=0")


def git(folder: Path, *arguments: str | Path) -> str:
    return run(folder, "git", *GIT_SETTINGS, *arguments)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of a hundred sources: a part of Python's own library."""
    tree = tmp_path_factory.mktemp("library") / "python"
    stdlib = Path(sysconfig.get_path("stdlib"))
    for name in ("asyncio", "email", "json", "xml"):
        shutil.copytree(stdlib / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tree


def work_with_git(folder: Path, library: Path) -> None:
    """Make a repository, change it, clone it on the mount, and clean it up."""
    first, clone = folder / "first", folder / "clone"
    shutil.copytree(library, first)
    git(folder, "init", "--quiet", first)
    git(first, "add", ".")
    git(first, "commit", "--quiet", "-m", "all")
    git(first, "checkout", "--quiet", "-b", "branch")
    (first / "json" / "decoder.py").write_text("changed\n")
    git(first, "mv", "email", "mail")
    git(first, "commit", "--quiet", "-am", "changed")
    git(folder, "clone", "--quiet", "--no-hardlinks", first, clone)
    git(first, "checkout", "--quiet", "main")
    git(clone, "merge", "--quiet", "--no-ff", "-m", "merged", "origin/branch")
    for repository in (first, clone):
        git(repository, "gc", "--quiet", "--prune=now")
        assert git(repository, "fsck", "--strict", "--full") == ""
        assert git(repository, "status", "--porcelain") == ""
    assert (clone / "json" / "decoder.py").read_text() == "changed\n"
    assert not (clone / "email").exists()
    differing = git(first, "diff", "--name-only", "main").split()
    assert differing == []
    (pack,) = (clone / ".git" / "objects" / "pack").glob("*.pack")
    git(clone, "verify-pack", pack)


def test_git(folder: Path, library: Path) -> None:
    """A work tree that git calls modified, or a broken object, would end all trust at once."""
    work_with_git(folder, library)


@pytest.mark.server
def test_git_in_a_bucket(tmp_path: Path, library: Path, s3_server: S3Server) -> None:
    """The same with a server behind it instead of a folder."""
    home = Home(tmp_path, s3_server.environment())
    source = f"s3://{s3_server.make_bucket()}/below/a/prefix"
    with volume(home, source, "--endpoint-url", s3_server.endpoint_url) as folder:
        work_with_git(folder, library)


def test_rsync_has_nothing_to_do_twice(folder: Path, library: Path, tmp_path: Path) -> None:
    """Backups compare what they wrote: with a lost bit or attribute they never come to an end."""
    origin = tmp_path / "origin"
    shutil.copytree(library, origin)
    add_oddities(origin)
    copy = ("rsync", "-aHX", "--checksum", "--itemize-changes", f"{origin}/", f"{folder}/copy/")
    changed = run(folder, *copy).splitlines()
    assert len(changed) > 100
    assert run(folder, *copy) == ""
    assert differing(seen(folder / "copy"), seen(origin)) == {}
    (origin / "json" / "decoder.py").write_text("changed\n")
    (origin / "xml" / "dom").rename(origin / "xml" / "renamed")
    os.utime(origin / "xml", (1, 1))  # rsync takes times of one second for the same
    run(folder, *copy, "--delete", "--inplace")
    assert differing(seen(folder / "copy"), seen(origin)) == {}


def add_oddities(tree: Path) -> None:
    """Add what archives and copies are known to forget."""
    odd = tree / "odd"
    odd.mkdir()
    plain = odd / "plain"
    plain.write_bytes(os.urandom(300_000))
    os.link(plain, odd / "second name")
    os.setxattr(plain, "user.origin", b"\0\xff any bytes")
    (odd / "dangling").symlink_to("nowhere/at all")
    (odd / "to-a-folder").symlink_to("..")
    os.mkfifo(odd / "pipe", 0o640)
    (odd / "empty folder").mkdir()
    (odd / "empty").touch()
    (odd / "locked").write_bytes(b"x")
    (odd / "locked").chmod(0o400)
    for name in (b"\xff\xfe", b"new\nline", b"-rf", b"*", " \u00e4 e\u0301 ".encode(), b"n" * 255):
        (odd / os.fsdecode(name)).write_bytes(name)
    with (odd / "sparse").open("wb") as file:
        file.seek(5_000_000)
        file.write(b"end")
    odd.chmod(0o2750)
    for number, path in enumerate((*sorted(odd.iterdir()), odd, tree)):
        os.utime(path, ns=(1, (number - 5) * 123_456_789_123_456_789), follow_symlinks=False)


def test_tar_round_trip(folder: Path, library: Path, tmp_path: Path) -> None:
    """An archive unpacked here and packed again has everything in it that it had."""
    origin, again = tmp_path / "origin", tmp_path / "again"
    shutil.copytree(library, origin)
    add_oddities(origin)
    again.mkdir()
    options = ("--xattrs", "--format=posix")
    run(origin, "tar", *options, "-cf", folder / "archive.tar", ".")
    (folder / "unpacked").mkdir()
    run(folder, "tar", *options, "-xpf", "archive.tar", "-C", "unpacked")
    assert differing(seen(folder / "unpacked"), seen(origin)) == {}
    run(folder / "unpacked", "tar", *options, "-czf", "../again.tar.gz", ".")
    run(again, "tar", *options, "-xpf", folder / "again.tar.gz")
    assert differing(seen(again), seen(origin)) == {}


def test_copies_of_everything(folder: Path, library: Path) -> None:
    """`cp -a` and `rm -rf` walk while they change, and Python writes beside what it reads."""
    run(folder, "cp", "-a", library, "tree")
    run(folder, sys.executable, "-m", "compileall", "-q", "tree")
    run(folder, "cp", "-a", "tree", "copy")
    assert differing(seen(folder / "tree"), seen(folder / "copy")) == {}
    assert len(list((folder / "copy").rglob("*.pyc"))) > 80
    run(folder, "rm", "-rf", "tree")
    assert [path.name for path in folder.iterdir()] == ["copy"]


def test_two_programs_append(folder: Path) -> None:
    """Logs of several processes: every line whole, none lost, each one's in their order."""
    append = textwrap.dedent(
        """
        import os, sys
        log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for number in range(1000):
            os.write(log, f"{sys.argv[2]} {number} {'x' * (number % 90)}\\n".encode())
        """
    )
    log = folder / "log"
    at_once(*([sys.executable, "-c", append, log, name] for name in ("one", "two")))
    lines = log.read_text().splitlines()
    for name in ("one", "two"):
        own = [line for line in lines if line.startswith(name)]
        assert own == [f"{name} {number} {'x' * (number % 90)}" for number in range(1000)]
    assert len(lines) == 2000


def test_two_programs_share_memory(folder: Path) -> None:
    """Through a mapping that both write to; the bytes of both reach the bucket."""
    path = folder / "mapped"
    path.write_bytes(bytes(64 * mmap.PAGESIZE))
    write = textwrap.dedent(
        """
        import mmap, os, sys
        first = int(sys.argv[2])
        with open(sys.argv[1], "r+b") as file, mmap.mmap(file.fileno(), 0) as shared:
            for place in range(first, len(shared), 2):
                shared[place] = first + 1
            shared.flush()
        """
    )
    at_once(*([sys.executable, "-c", write, path, first] for first in ("0", "1")))
    assert path.read_bytes() == b"\1\2" * (32 * mmap.PAGESIZE)


def test_direct_io(folder: Path) -> None:
    """Databases that bypass the page cache, beside programs that do not."""
    path = folder / "direct"
    block = mmap.mmap(-1, 1024 * 1024)
    block[:] = pattern = os.urandom(len(block))
    direct = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    try:
        for number in range(5):
            assert os.pwrite(direct, block, number * len(block)) == len(block)
        with path.open("r+b") as buffered:
            assert buffered.read() == pattern * 5
            buffered.seek(4096)
            buffered.write(b"buffered")
        assert os.preadv(direct, [block], 0) == len(block)
        assert block[4096:4104] == b"buffered"
        block[4096:4104] = b"directly"
        os.pwritev(direct, [block], 0)
    finally:
        os.close(direct)
    assert path.read_bytes()[4096:4104] == b"directly"


def test_editors_save(folder: Path) -> None:
    """In the ways in which editors do; whoever has the old file open goes on reading it."""
    text = folder / "text"
    text.write_text("version 0\n")
    text.chmod(0o640)
    with text.open() as opened:
        temporary = folder / ".text.swp"  # a temporary file, renamed over
        with temporary.open("w") as file:
            file.write("version 1\n")
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(text, temporary)
        temporary.replace(text)
        assert opened.read() == "version 0\n"
    text.rename(folder / "text~")  # the old one aside, a new one in its place
    text.write_text("version 2\n")
    os.link(text, folder / "text.bak")  # a second name, then a new file
    text.unlink()
    text.write_text("version 3\n")
    with text.open("r+") as file:  # in place, shorter than before
        file.write("v4\n")
        file.truncate()
    run(folder, "sed", "-i.orig", "s/v4/version 5/", text)
    found = {path.name: path.read_text() for path in folder.iterdir()}
    assert found == {
        "text": "version 5\n",
        "text.orig": "v4\n",
        "text.bak": "version 2\n",
        "text~": "version 1\n",
    }
    assert (folder / "text~").stat().st_mode & 0o777 == 0o640


MAKEFILE = """
program: main.o greet.o
\t$(CC) -o $@ $^
%.o: %.c greet.h
\t$(CC) -Wall -Werror -c -o $@ $<
"""
SOURCES = {
    "Makefile": MAKEFILE,
    "greet.h": '#define WHOM "world"\nvoid greet(const char *whom);\n',
    "greet.c": '#include <stdio.h>\n#include "greet.h"\n'
    'void greet(const char *whom) { printf("hello %s\\n", whom); }\n',
    "main.c": '#include "greet.h"\nint main(void) { greet(WHOM); return 0; }\n',
}


def test_a_build(folder: Path) -> None:
    """`make` builds what changed, all of it and nothing else; what it built can be executed."""
    for name, text in SOURCES.items():
        (folder / name).write_text(text)
    assert run(folder, "make", "-j2").count("-c -o") == 2
    assert run(folder, folder / "program") == "hello world\n"
    assert "up to date" in run(folder, "make")
    (folder / "greet.h").write_text(SOURCES["greet.h"].replace("world", "mount"))
    run(folder, "make", "-j2")
    assert run(folder, "./program") == "hello mount\n"
    (folder / "main.c").touch()
    assert run(folder, "make").count("-c -o") == 1
    assert "up to date" in run(folder, "make")


def wheel_of(name: str, folder: Path) -> Path:
    """Pack an installed distribution into a wheel, so that no network is needed."""
    installed = importlib.metadata.distribution(name)
    assert installed.files is not None
    wheel = folder / f"{name}-{installed.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in installed.files:
            if file.suffix != ".pyc" and file.name not in ("INSTALLER", "REQUESTED"):
                archive.write(str(file.locate()), str(file))
    return wheel


def test_pip_installs(folder: Path, tmp_path: Path) -> None:
    """Packages on the mount can be imported, compiled and updated."""
    wheel = wheel_of("click", tmp_path)
    target = folder / "packages"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    install += ["--disable-pip-version-check", "--target", str(target)]
    run(tmp_path, *install, wheel)
    run(tmp_path, *install, "--upgrade", "--no-cache-dir", wheel)
    tell = "import click; print(click.__file__)"
    printed = run(target, sys.executable, "-c", tell)
    assert Path(printed.strip()).is_relative_to(target)
    click = importlib.metadata.distribution("click")
    for file in click.files or ():
        if file.suffix == ".py":
            assert (target / file).read_bytes() == Path(str(file.locate())).read_bytes()

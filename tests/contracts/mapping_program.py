"""A program of its own that maps files, for `vfs_kernel_contract` and `test_other_clients`.

Not a thread: a page fault on a mount that the same process serves would hold the interpreter's
lock, and wait for ever. Called with the name of a function and a path; prints what it saw.
"""

import mmap
import os
import sys

PAGE = 4096


def write_mapped(path: bytes) -> bytes:
    """Write through a shared mapping."""
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[PAGE + 5 : PAGE + 11] = b"mapped"
        mapped.flush()
    return b"done"


def watch_mapped(path: bytes) -> bytes:
    """Change a file by write(2) and through one of two mappings; return what both showed."""
    with (
        open(path, "r+b") as file,
        mmap.mmap(file.fileno(), 0) as one,
        mmap.mmap(file.fileno(), 0) as two,
    ):
        seen = one[:1]
        os.pwrite(file.fileno(), b"b", 0)
        seen += one[:1]
        one[0:1] = b"c"
        return seen + two[:1] + os.pread(file.fileno(), 1, 0)


def map_unlinked(path: bytes) -> bytes:
    """Go on with a mapping after the file was removed."""
    with open(path, "w+b") as file:
        file.truncate(PAGE)
        with mmap.mmap(file.fileno(), 0) as mapped:
            os.unlink(path)
            mapped[:4] = b"kept"
            mapped.flush()
            return os.pread(file.fileno(), 4, 0)


def leave_mapped(path: bytes) -> bytes:
    """Write through a mapping, and end without a flush."""
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[:4] = b"left"
    return b"done"


def read_in_two(path: bytes) -> bytes:
    """Show the first byte of a mapping, and the rest once we are told to go on."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        _tell_and_wait(mapped[:1])
        return mapped[1:]


def write_later(path: bytes) -> bytes:
    """Write through a mapping once we are told to go on; return what it shows then."""
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        _tell_and_wait(mapped[:1])
        mapped[:4] = b"edit"
        mapped.flush()
        return mapped[1:]


def _tell_and_wait(seen: bytes) -> None:
    sys.stdout.buffer.write(seen)
    sys.stdout.buffer.flush()
    sys.stdin.readline()


if __name__ == "__main__":
    sys.stdout.buffer.write(globals()[sys.argv[1]](os.fsencode(sys.argv[2])))

"""Do the same random things to two directories, and compare what each step says and leaves.

One of them is a plain folder: so the machine's own file system is the oracle for every result
and every errno.
"""

import errno
import os
import random
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.contracts.files import EXCHANGE, NOREPLACE, Files, Handle

NAMES = [b"a", b"b", b"c", b"dd"]
"""Of files and directories."""
ODD_NAMES = [b"x", b"yy"]
"""Of symbolic links and pipes: apart from the others, because a kernel would go through a link, and
wait for the other end of a pipe."""
MAKE_ODD = ("symlink", "mknod")
MAY_BE_ODD = ("unlink", "rename", "link")
ALIKE = {
    # rename(2) lets file systems choose between the two.
    errno.EEXIST: errno.ENOTEMPTY,
}


@dataclass
class Side:
    """One of the two directories, and the files open in it."""

    files: Files
    handles: list[Handle] = field(default_factory=list)

    async def close(self) -> None:
        for handle in self.handles:
            await handle.close()
        self.handles.clear()


Step = Callable[[Side], Awaitable[object]]


async def compare(one: Side, other: Side, seed: int, steps: int) -> None:
    """Take random steps on both sides; each must end alike, and leave the same tree."""
    chance = random.Random(seed)
    history: list[str] = []
    try:
        for _ in range(steps):
            name, step = _draw(chance, len(one.handles))
            history.append(name)
            assert await _outcome(one, step) == await _outcome(other, step)
            if chance.random() < 0.1:
                assert await _tree(one.files) == await _tree(other.files)
        assert await _tree(one.files) == await _tree(other.files)
    except AssertionError as error:
        error.add_note("\n".join(history))
        raise
    finally:
        await one.close()
        await other.close()


def _draw(chance: random.Random, handles: int) -> tuple[str, Step]:
    """Choose a step; return it with its description."""
    kind = chance.choice(list(_STEPS))
    is_odd = kind in MAKE_ODD or (kind in MAY_BE_ODD and chance.random() < 0.2)
    path, other = _path(chance, is_odd=is_odd), _path(chance, is_odd=is_odd)
    numbers = [chance.randrange(20_000), chance.choice([1, 500, 9000]), chance.randrange(1 << 30)]
    number = chance.randrange(handles) if handles else None
    described = f"{kind} {path!r} {other!r} {numbers} handle={number}"
    return described, lambda side: _STEPS[kind](side, path, other, numbers, number)


def _path(chance: random.Random, *, is_odd: bool) -> bytes:
    depth = chance.choices([0, 1, 2], [4, 3, 1])[0]
    names = [chance.choice(NAMES) for _ in range(depth)]
    return b"/".join([*names, chance.choice(ODD_NAMES if is_odd else NAMES)])


async def _outcome(side: Side, step: Step) -> object:
    try:
        return await step(side)
    except OSError as error:
        number = ALIKE.get(error.errno or 0, error.errno or 0)
        return errno.errorcode[number]


# --- the steps: each gets two paths, an offset, a size and a seed, and an open file -------

Numbers = list[int]


async def _create(side: Side, path: bytes, other: bytes, n: Numbers, handle: int | None) -> object:
    flags = os.O_RDWR | os.O_CREAT | (os.O_EXCL if n[2] % 3 == 0 else 0)
    flags |= os.O_TRUNC if n[2] % 5 == 0 else 0
    side.handles.append(await side.files.open(path, flags, 0o600 | n[2] & 0o55))
    return None


async def _open(side: Side, path: bytes, other: bytes, n: Numbers, handle: int | None) -> object:
    side.handles.append(await side.files.open(path, os.O_RDWR))
    return None


async def _close(side: Side, path: bytes, other: bytes, n: Numbers, handle: int | None) -> object:
    if handle is not None:
        await side.handles.pop(handle).close()
    return None


async def _write(side: Side, path: bytes, other: bytes, n: Numbers, handle: int | None) -> object:
    if handle is not None:
        await side.handles[handle].write(n[0], random.Random(n[2]).randbytes(n[1]))
    return None


async def _cut(side: Side, path: bytes, other: bytes, n: Numbers, handle: int | None) -> object:
    if handle is not None:
        await side.handles[handle].truncate(n[0])
    return None


async def _read(side: Side, path: bytes, other: bytes, n: Numbers, handle: int | None) -> object:
    if handle is None:
        return None
    found = await side.handles[handle].stat()
    return found.nlink, found.size_bytes, await side.handles[handle].read(n[0], n[1])


async def _mkdir(side: Side, path: bytes, other: bytes, n: Numbers, handle: int | None) -> object:
    return await side.files.mkdir(path, 0o700 | n[2] & 0o55)


async def _unlink(side: Side, path: bytes, other: bytes, n: Numbers, handle: int | None) -> object:
    return await side.files.unlink(path)


async def _rmdir(side: Side, path: bytes, other: bytes, n: Numbers, handle: int | None) -> object:
    return await side.files.rmdir(path)


async def _rename(side: Side, path: bytes, other: bytes, n: Numbers, handle: int | None) -> object:
    flags = [0, 0, 0, NOREPLACE, EXCHANGE][n[2] % 5]
    return await side.files.rename(path, other, flags)


async def _link(side: Side, path: bytes, other: bytes, n: Numbers, handle: int | None) -> object:
    return await side.files.link(path, other)


async def _symlink(side: Side, path: bytes, other: bytes, n: Numbers, handle: int | None) -> object:
    return await side.files.symlink(other, path)


async def _mknod(side: Side, path: bytes, other: bytes, n: Numbers, handle: int | None) -> object:
    return await side.files.mknod(path, stat.S_IFIFO | 0o644)


async def _chmod(side: Side, path: bytes, other: bytes, n: Numbers, handle: int | None) -> object:
    return await side.files.chmod(path, n[2] & 0o777)


async def _xattr(side: Side, path: bytes, other: bytes, n: Numbers, handle: int | None) -> object:
    if not (await side.files.stat(path)).is_folder:
        return None
    await side.files.setxattr(path, f"user.{n[2] % 3}", b"%d" % n[0])
    return None


_STEPS: dict[str, Callable[[Side, bytes, bytes, Numbers, int | None], Awaitable[object]]] = {
    "create": _create,
    "open": _open,
    "close": _close,
    "write": _write,
    "cut": _cut,
    "read": _read,
    "mkdir": _mkdir,
    "unlink": _unlink,
    "rmdir": _rmdir,
    "rename": _rename,
    "link": _link,
    "symlink": _symlink,
    "mknod": _mknod,
    "chmod": _chmod,
    "xattr": _xattr,
}


# --- the tree ---------------------------------------------------------------------------


async def _tree(files: Files, path: bytes = b"") -> dict[bytes, object]:
    """Return all that can be seen below a directory, but for numbers and moments."""
    found: dict[bytes, object] = {}
    for name in await files.listdir(path):
        below = path + b"/" + name if path else name
        found[below] = await _describe(files, below)
        if (await files.stat(below)).is_folder:
            found |= await _tree(files, below)
    return found


async def _describe(files: Files, path: bytes) -> object:
    about = await files.stat(path)
    if about.is_folder:
        names = sorted(await files.listxattr(path))
        return oct(about.mode), [(name, await files.getxattr(path, name)) for name in names]
    if stat.S_ISLNK(about.mode):
        return await files.readlink(path), about.nlink
    if stat.S_ISREG(about.mode):
        return oct(about.mode), about.nlink, await files.read(path)
    return oct(about.mode), about.nlink

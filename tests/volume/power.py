"""Record what reaches a disk, and make the folders that a power cut could leave.

A disk keeps what was flushed. Of what was not, it keeps any part, in any order, in whole sectors;
names change in the order in which they were changed, up to some point.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

SECTOR_BYTES = 512


@dataclass
class _File:
    """One inode: what is surely on disk, and what was written since."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes]] = field(default_factory=list)

    def flushed(self) -> None:
        for offset, data in self.pending:
            _lay(self.durable, offset, data)
        self.pending.clear()

    def after_a_cut(self, chance: Random) -> bytes:
        """Return the bytes that a power cut may leave: some sectors of some writes."""
        left = bytearray(self.durable)
        pending = [
            (offset + at, data[at : at + SECTOR_BYTES])
            for offset, data in self.pending
            for at in range(0, len(data), SECTOR_BYTES)
        ]
        share = chance.random()
        for offset, data in pending:
            if chance.random() < share:
                _lay(left, offset, data)
        return bytes(left)


class Disk:
    """The folder of a journal, seen from the disk's side, which has all that is in it already."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._files: list[_File] = []
        self._ids: dict[int, int] = {}
        """The file of each inode number; numbers are used again."""
        self._names: dict[str, int] = {}
        self._name_changes: list[Callable[[dict[str, int]], None]] = []
        self._lock = threading.RLock()
        """Flushes come from worker threads."""
        for number, path in enumerate(folder.iterdir()):
            self._files.append(_File(bytearray(path.read_bytes())))
            self._ids[path.stat().st_ino] = self._names[path.name] = number
        for name in ("pwritev", "fdatasync", "fsync", "ftruncate", "posix_fallocate"):
            monkeypatch.setattr(os, name, self._watched(getattr(os, name), getattr(self, name)))
        for name in ("rename", "replace", "unlink"):
            monkeypatch.setattr(os, name, self._named(getattr(os, name), getattr(self, name)))

    def cut(self, to: Path, chance: Random) -> Path:
        """Make `to` a folder as it may be when the power comes back."""
        with self._lock:
            names = dict(self._names)
            for change in self._name_changes[: chance.randint(0, len(self._name_changes))]:
                change(names)
            to.mkdir()
            for name, number in names.items():
                (to / name).write_bytes(self._files[number].after_a_cut(chance))
            return to

    def pwritev(self, descriptor: int, parts: list[bytes], offset: int) -> None:
        data = b"".join(bytes(part) for part in parts)
        self._of(descriptor).pending.append((offset, data))

    def fdatasync(self, descriptor: int) -> None:
        self._of(descriptor).flushed()

    def fsync(self, descriptor: int) -> None:
        path = _path_of(descriptor)
        if path.is_dir():
            for change in self._name_changes:
                change(self._names)
            self._name_changes.clear()
            return
        file = self._of(descriptor)
        file.flushed()
        if path.name.startswith("state"):  # written by other means
            file.durable[:] = path.read_bytes()

    def ftruncate(self, descriptor: int, length: int) -> None:
        """Note nothing: what lies behind the end of the log may stay."""

    def posix_fallocate(self, descriptor: int, offset: int, length: int) -> None:
        _lay(self._of(descriptor).durable, offset + length, b"")

    def rename(self, old: Path, new: Path) -> None:
        def change(names: dict[str, int]) -> None:
            if old.name in names:
                names[new.name] = names.pop(old.name)

        self._forget_number(new)
        self._name_changes.append(change)

    replace = rename

    def unlink(self, path: Path) -> None:
        def change(names: dict[str, int]) -> None:
            names.pop(path.name, None)

        self._forget_number(path)
        self._name_changes.append(change)

    def _of(self, descriptor: int) -> _File:
        """Return the file; one that is new gets its name."""
        inode = os.fstat(descriptor).st_ino
        if inode not in self._ids:
            made = self._ids[inode] = len(self._files)
            self._files.append(_File())
            name = _path_of(descriptor).name
            self._name_changes.append(lambda names: names.__setitem__(name, made))
        return self._files[self._ids[inode]]

    def _forget_number(self, path: Path) -> None:
        if path.exists():
            self._ids.pop(path.stat().st_ino, None)

    def _watched(self, real: Callable[..., object], note: Callable[..., None]) -> object:
        def both(descriptor: int, *rest: object) -> object:
            path = str(_path_of(descriptor))
            if path.startswith(str(self._folder)):
                with self._lock:
                    note(descriptor, *rest)
            return real(descriptor, *rest)

        return both

    def _named(self, real: Callable[..., object], note: Callable[..., None]) -> object:
        def both(path: Path, *rest: Path, **options: object) -> object:
            if str(path).startswith(str(self._folder)):
                with self._lock:
                    note(Path(path), *rest)
            return real(path, *rest, **options)

        return both


def _path_of(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()


def _lay(body: bytearray, offset: int, data: bytes) -> None:
    if len(body) < offset + len(data):
        body.extend(bytes(offset + len(data) - len(body)))
    body[offset : offset + len(data)] = data

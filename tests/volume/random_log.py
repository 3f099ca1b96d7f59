"""Tell of a random life of a small tree: entries of a log that can all be replayed."""

import random

from blobfs.formats.commit import (
    AddLinks,
    DropDirent,
    DropFolder,
    MoveFolder,
    Operation,
    PutDirent,
    SetAttributes,
    SetXattr,
)
from blobfs.formats.rows import Kind
from blobfs.model.chain import Landed
from blobfs.types import ROOT_INODE, InodeNo, PackName
from tests.volume.story import GRANTED, PACK, ROOT, Story, chunked, new_file, new_folder

Name = tuple[InodeNo, bytes]

NAMES = [b"%c%d" % (letter, number) for letter in b"abxy" for number in range(6)]
PACKS = (PACK, PackName(b"q" * 40))


class RandomLog:
    """A tree that changes, and the entries that say so."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._story = Story()
        self._next = 2
        self.files: dict[InodeNo, set[Name]] = {}
        self.folders: dict[InodeNo, Name] = {}
        self._content_seqs: dict[InodeNo, int] = {}
        self._touched: set[InodeNo] = set()

    @property
    def numbers(self) -> list[InodeNo]:
        """All numbers that were ever used, the root's, and some that were not."""
        return [InodeNo(number) for number in range(1, self._next + 3)]

    def entries(self, count: int, length: int = 6) -> list[Landed]:
        """Return the next entries, each of some changes."""
        return [self._entry(length) for _ in range(count)]

    def _entry(self, length: int) -> Landed:
        self._touched.clear()
        operations: list[Operation] = [] if self._story.seq else [ROOT, GRANTED]
        for _ in range(self._chance.randint(1, length)):
            operations += self._change()
        packs = (self._chance.choice(PACKS),)
        used = {PACK, *packs} if any(hasattr(op, "content") for op in operations) else packs
        return self._story.entry(*operations, packs=tuple(sorted(used)))

    def _change(self) -> tuple[Operation, ...]:
        kinds = [self._make_file, self._make_file, self._make_folder, self._write]
        kinds += [self._unlink, self._rename, self._link, self._chmod, self._rmdir, self._move]
        return self._chance.choice(kinds)()

    def _make_file(self) -> tuple[Operation, ...]:
        parent, name = place = self._free_name()
        number = self._take()
        self.files[number] = {place}
        self._content_seqs[number] = self._story.seq + 1
        self._touched.add(number)
        return new_file(number, name, b"x" * (number % 7), parent)

    def _make_folder(self) -> tuple[Operation, ...]:
        parent, name = place = self._free_name()
        number = self._take()
        self.folders[number] = place
        return new_folder(number, name, parent)

    def _write(self) -> tuple[Operation, ...]:
        number = self._file()
        if number is None or number in self._touched:
            return ()
        base, self._content_seqs[number] = self._content_seqs[number], self._story.seq + 1
        self._touched.add(number)
        return (chunked(number, base=base),)

    def _unlink(self) -> tuple[Operation, ...]:
        number = self._file()
        if number is None:
            return ()
        parent, name = self._chance.choice(sorted(self.files[number]))
        self.files[number].remove((parent, name))
        if not self.files[number]:
            del self.files[number]
        return DropDirent(parent, name, number), AddLinks(number, -1)

    def _rename(self) -> tuple[Operation, ...]:
        number = self._file()
        if number is None:
            return ()
        old, new = self._chance.choice(sorted(self.files[number])), self._free_name()
        self.files[number] = self.files[number] - {old} | {new}
        return DropDirent(*old, number), PutDirent(*new, number, Kind.FILE)

    def _link(self) -> tuple[Operation, ...]:
        number = self._file()
        if number is None:
            return ()
        new = self._free_name()
        self.files[number].add(new)
        return AddLinks(number, 1), PutDirent(*new, number, Kind.FILE)

    def _chmod(self) -> tuple[Operation, ...]:
        number = self._chance.choice([ROOT_INODE, *self.folders, *self.files])
        value = b"%d" % self._chance.randrange(100)
        return SetAttributes(number, mode=self._chance.randrange(0o1000)), SetXattr(
            number, b"user.a", value
        )

    def _rmdir(self) -> tuple[Operation, ...]:
        empty = [number for number in self.folders if not self._has_names(number)]
        if not empty:
            return ()
        number = self._chance.choice(empty)
        return DropDirent(*self.folders.pop(number), number), DropFolder(number)

    def _move(self) -> tuple[Operation, ...]:
        new = self._free_name()
        parent = new[0]
        movable = [number for number in self.folders if number not in self._above(parent)]
        if not movable:
            return ()
        number = self._chance.choice(movable)
        old, self.folders[number] = self.folders[number], new
        drop, put = DropDirent(*old, number), PutDirent(*new, number, Kind.FOLDER)
        return drop, put, MoveFolder(number, parent)

    def _take(self) -> InodeNo:
        self._next += 1
        return InodeNo(self._next - 1)

    def _file(self) -> InodeNo | None:
        return self._chance.choice(sorted(self.files)) if self.files else None

    def _free_name(self) -> Name:
        taken = {name for names in self.files.values() for name in names}
        taken |= set(self.folders.values())
        while True:
            parent = self._chance.choice([ROOT_INODE, *self.folders])
            place = parent, self._chance.choice(NAMES) + b"%d" % self._chance.randrange(9)
            if place not in taken:
                return place

    def _has_names(self, folder: InodeNo) -> bool:
        names = [name for names in self.files.values() for name in names]
        return any(parent == folder for parent, _ in [*names, *self.folders.values()])

    def _above(self, folder: InodeNo) -> list[InodeNo]:
        above = [folder]
        while folder != ROOT_INODE:
            folder = self.folders[folder][0]
            above.append(folder)
        return above

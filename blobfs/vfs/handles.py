"""Keep the files and directories that programs have open, by their handles.

Concurrency: nothing here awaits.
"""

import itertools
from collections.abc import Set
from dataclasses import dataclass

from blobfs.model.changes import DirentKey
from blobfs.model.rebase import Foreign
from blobfs.types import HandleNo, InodeNo, NodeNo
from blobfs.vfs.attributes import BadHandle
from blobfs.vfs.files import OpenFile
from blobfs.volume.namespace_folder import FolderReader


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A file with the node that it was opened by, and the name that led to it."""

    file: OpenFile
    node: NodeNo
    place: DirentKey | None


@dataclass(frozen=True, slots=True)
class OpenedFolder:
    """A directory with the node that it was opened by."""

    reader: FolderReader
    node: NodeNo


class Handles:
    """What is open."""

    def __init__(self) -> None:
        self._handles = itertools.count(1)
        self._files: dict[HandleNo, OpenedFile] = {}
        self._folders: dict[HandleNo, OpenedFolder] = {}

    def add_file(self, opened: OpenedFile) -> HandleNo:
        handle = HandleNo(next(self._handles))
        self._files[handle] = opened
        return handle

    def add_folder(self, opened: OpenedFolder) -> HandleNo:
        handle = HandleNo(next(self._handles))
        self._folders[handle] = opened
        return handle

    def file(self, handle: HandleNo) -> OpenFile:
        """Return an open file.

        Raises:
            BadHandle: there is none of that handle.
        """
        opened = self._files.get(handle)
        if opened is None:
            raise BadHandle(f"no such open file. handle={handle}")
        return opened.file

    def folder(self, handle: HandleNo) -> FolderReader:
        """Return the reader of an open directory.

        Raises:
            BadHandle: there is none of that handle.
        """
        opened = self._folders.get(handle)
        if opened is None:
            raise BadHandle(f"no such open directory. handle={handle}")
        return opened.reader

    def take_file(self, handle: HandleNo) -> OpenedFile | None:
        """Return an open file, which is open no more; None: it was not."""
        return self._files.pop(handle, None)

    def take_folder(self, handle: HandleNo) -> OpenedFolder | None:
        """Return an open directory, which is open no more; None: it was not."""
        return self._folders.pop(handle, None)

    @property
    def open_files(self) -> int:
        return len(self._files)

    def held_inodes(self) -> Set[InodeNo]:
        """Return the files that are open."""
        return {opened.file.inode for opened in self._files.values()}

    def place(self, inode: InodeNo) -> DirentKey | None:
        """Return a name by which a file was opened, right or wrong by now."""
        places = (each.place for each in self._files.values() if each.file.inode == inode)
        return next((place for place in places if place is not None), None)

    def follow(self, foreign: Foreign) -> None:
        """Let handles go on with what they were opened on, whatever that is called now (C2)."""
        for opened in self._files.values():
            inode = opened.file.inode
            if inode in foreign.numbers:
                opened.file.renumber(foreign.numbers[inode])
            elif inode in foreign.contents:
                opened.file.part()
        for folder in self._folders.values():
            inode = folder.reader.inode
            folder.reader.inode = foreign.numbers.get(inode, inode)

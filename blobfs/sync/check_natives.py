"""Check the objects of other tools that files of a volume refer to: they are there, unchanged.

A file under its own name that is no more than its object follows that to whatever version another
tool puts there (N4); one with another name needs the version that it had (N2).

Concurrency: some are looked at side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from blobfs.errors import BlobfsError, NotFound
from blobfs.formats.rows import Native
from blobfs.formats.version import parse_version
from blobfs.model.listing import OBJECT_SUFFIX, to_name, to_segment
from blobfs.stores.base import Store
from blobfs.sync.check_report import Findings, shown_path
from blobfs.types import ObjectInfo

PARALLEL = 16


@dataclass(frozen=True, slots=True)
class Bound:
    """A file, and the object that holds its content."""

    path: bytes
    native: Native
    follows: bool
    """Whether another version under the key would show as the file."""


class NativeCheck:
    """Looks at objects; counts them."""

    def __init__(self, store: Store, findings: Findings) -> None:
        self._store = store
        self._findings = findings
        self._limit = trio.CapacityLimiter(PARALLEL)
        self.objects = 0

    async def look_at(self, files: Sequence[Bound]) -> None:
        """Name the files whose objects are gone, or are others by now.

        Raises:
            BlobfsError: the store failed us.
        """
        problems: dict[Bound, str | None] = {}
        errors: list[BlobfsError] = []

        async def look(file: Bound) -> None:
            async with self._limit:
                try:
                    problems[file] = await self._problem(file)
                except BlobfsError as error:
                    errors.append(error)

        async with trio.open_nursery() as nursery:
            for file in files:
                nursery.start_soon(look, file)
        if errors:
            raise errors[0]
        self.objects += len(problems)
        for file in files:
            if (problem := problems[file]) is not None:
                where = f"key={to_segment(file.native.key)!r} version={file.native.version!r}"
                self._findings.damaged("native", shown_path(file.path), f"{problem}. {where}")

    async def _problem(self, file: Bound) -> str | None:
        try:
            found = await self._store.head(to_segment(file.native.key))
        except NotFound:
            return "the object that holds its content is gone"
        if file.follows or _is_version(found, file.native):
            return None
        return "another tool replaced the object that holds its content"


def follows(path: bytes, native: Native, prefix: str) -> bool:
    """Return whether a file lies where its object does, in the directory that shows what lies
    below `prefix`."""
    key = to_name(prefix) + path.rpartition(b"/")[2]
    return key in (native.key, native.key + to_name(OBJECT_SUFFIX))


def _is_version(found: ObjectInfo, native: Native) -> bool:
    expected = parse_version(native.version)
    return found.etag == expected.etag and found.size_bytes == native.size_bytes

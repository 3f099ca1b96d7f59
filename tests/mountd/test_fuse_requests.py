"""What happens while a request is carried out never ends a mount."""

import errno
import itertools
from collections import Counter
from dataclasses import dataclass, field

import pyfuse3
import pytest

from blobfs.errors import BlobfsError, Damaged
from blobfs.formats.checkpoint_blocks import BlockRef
from blobfs.formats.rows import Extent
from blobfs.formats.tables import Table
from blobfs.volume.tree_blocks import Block, NotLoaded
from mountd.fuse_requests import handler

BLOCKS = [
    Block(Table.INODES, BlockRef(0, bytes(8), b"\xff" * 8, 1, Extent(number))) for number in (1, 2)
]


@dataclass
class Mount:
    """Answers one request, for which two blocks have to be loaded one after the other."""

    loaded: list[Block] = field(default_factory=list)
    error: BaseException | None = None
    counts: Counter[str] = field(default_factory=Counter)
    serial: "itertools.count[int]" = field(default_factory=itertools.count)
    noted: int = 0

    def note_request(self) -> None:
        self.noted += 1

    async def load(self, missing: NotLoaded) -> None:
        if self.error is not None:
            raise self.error
        self.loaded += missing.blocks

    @handler
    async def look(self, name: bytes) -> bytes:
        for block in BLOCKS:
            if block not in self.loaded:
                raise NotLoaded((block,))
        return name.upper()


async def test_a_request_waits_for_what_has_to_be_loaded() -> None:
    """A program would see an error for a file that is there, but was not fetched yet."""
    mount = Mount()
    assert await mount.look(b"name") == b"NAME"
    assert mount.loaded == BLOCKS
    assert mount.counts == {"look": 1}
    assert mount.noted == 1


@pytest.mark.parametrize(
    "error", [Damaged("a block is gone"), BlobfsError("?"), ValueError("a fault of ours")]
)
async def test_what_cannot_be_loaded_is_an_error(error: Exception) -> None:
    """Nothing that is not here may be taken for absent, nor end the mount."""
    with pytest.raises(pyfuse3.FUSEError) as raised:
        await Mount(error=error).look(b"name")
    assert raised.value.errno == errno.EIO

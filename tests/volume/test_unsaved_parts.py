"""A large write becomes several records, and each of them leaves a whole file."""

from pathlib import Path

import pytest

from blobfs.errors import LocalFault
from blobfs.formats.rows import Kind
from blobfs.model.tree_rules_attributes import Wanted, row_after_write
from blobfs.types import MIB, ROOT_INODE
from tests.volume.world import opened_world


async def test_a_write_cut_short_keeps_the_committed_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever changes the begin of a file must not lose its end, wherever a kill hits (P1)."""
    async with opened_world(tmp_path) as world:
        made = await world.make((b"f",), Kind.FILE)
        world.namespace.setattr(made.inode, Wanted(size_bytes=5 * MIB))
        await world.commit()
        row = row_after_write(world.namespace.node(made.inode).row, 2 * MIB, world.now_ns)
        append = world.unsaved._journal.append_bytes
        appended = []

        def append_once(body: object, data: bytes) -> object:
            if appended:
                raise LocalFault("the daemon was killed here")
            appended.append(data)
            return append(body, data)  # type: ignore[arg-type]

        monkeypatch.setattr(world.unsaved._journal, "append_bytes", append_once)
        with pytest.raises(LocalFault):
            world.unsaved.write(made.inode, row, 0, b"x" * 2 * MIB)
        await world.kill()
        (found,) = (await world.nodes_in(ROOT_INODE)).values()
        assert found.row.size_bytes == 5 * MIB

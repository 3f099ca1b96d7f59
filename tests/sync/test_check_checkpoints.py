"""`check` says whether the checkpoints are whole, and lead to the tree that the log makes."""

import random
from pathlib import Path

import pytest
from msgspec.structs import replace

from blobfs.env import Env
from blobfs.errors import Damaged
from blobfs.formats.checkpoint import Checkpoint, encode_checkpoint
from blobfs.formats.commit import Counters
from blobfs.formats.head import Head, decode_head, encode_head
from blobfs.formats.keys import checkpoint_key, head_key, log_key, pack_key
from blobfs.stores.memory import MemoryStore
from blobfs.sync.binding import TREE
from blobfs.sync.check import Checked, CheckOptions, check, repair
from blobfs.sync.check_report import CheckReport, Damage
from blobfs.sync.checkpoint import CheckpointWriter
from blobfs.types import ClientId, Seq
from blobfs.volume.checkpoint_finding import fetch_checkpoint
from blobfs.volume.tree import open_kept_tree
from tests.sync.place import Place, opened_place
from tests.sync.small import SMALL

pytestmark = pytest.mark.slow

KIB = 1024


@pytest.fixture
async def store(tmp_path: Path) -> MemoryStore:
    """A volume with two checkpoints, and a commit behind the second."""
    store, chance = MemoryStore(), random.Random(1)
    async with opened_place(store, tmp_path) as place:
        await place.mkdir("d")
        for number in range(30):
            await place.write(f"d/{number}", chance.randbytes(2 * KIB))
        await place.save()
        await checkpoint_of(store, place)
        await place.write("d/7", b"changed")
        await place.save()
        await checkpoint_of(store, place)
        await place.rename("d/8", "eight")
        await place.save()
    return store


async def checkpoint_of(store: MemoryStore, place: Place) -> None:
    env = Env(chance=random.Random(2).random)
    writer = CheckpointWriter(store, place.engine.tree, env, ClientId(bytes(16)), SMALL)
    await writer.write()


async def look_closely(store: MemoryStore, tmp_path: Path, **options: object) -> Checked:
    scratch = tmp_path / f"scratch-{random.random()}"
    return await check(store, CheckOptions(scratch, **options), Env())  # type: ignore[arg-type]


async def look(store: MemoryStore, tmp_path: Path, **options: object) -> CheckReport:
    return (await look_closely(store, tmp_path, **options)).report


def only(report: CheckReport) -> Damage:
    (damage,) = report.damages
    return damage


async def head(store: MemoryStore) -> Head:
    return decode_head(store.peek(head_key()), key="head")


async def newest(store: MemoryStore) -> tuple[str, Checkpoint]:
    name = (await head(store)).checkpoint
    assert name is not None
    return name, await fetch_checkpoint(store, name)


async def name_another(store: MemoryStore, checkpoint: Checkpoint) -> str:
    """Let `head` name another checkpoint, as a faulty writer would."""
    name, data = encode_checkpoint(checkpoint)
    await store.put(checkpoint_key(name), data)
    await store.put(head_key(), encode_head(replace(await head(store), checkpoint=name)))
    return name


async def cut(store: MemoryStore, floor: int) -> None:
    """Cut the log, as a collector of garbage will."""
    await store.put(head_key(), encode_head(replace(await head(store), floor=Seq(floor))))
    await store.delete_many([log_key(Seq(seq)) for seq in range(1, floor + 1)])


@pytest.mark.parametrize("read_data", [False, True])
async def test_nothing_is_found(store: MemoryStore, tmp_path: Path, read_data: bool) -> None:
    """A check that cries wolf is one that nobody runs."""
    report = await look(store, tmp_path, read_data=read_data, state_dir=tmp_path / "state")
    assert (report.damages, report.notes) == ((), ())
    assert (report.commits, report.checkpoints, report.files) == (3, 2, 30)


async def test_a_manifest_that_is_gone(store: MemoryStore, tmp_path: Path) -> None:
    """The next mount would have to replay everything, and nobody would have known before."""
    name, _ = await newest(store)
    await store.delete_many([checkpoint_key(name)])
    damage = only(await look(store, tmp_path))
    assert (damage.kind, damage.name) == ("checkpoint", checkpoint_key(name))


async def test_a_pack_that_is_gone(store: MemoryStore, tmp_path: Path) -> None:
    """A directory would be unreadable one day, in a volume that was called whole."""
    name, found = await newest(store)
    pack = max(found.packs())
    await store.delete_many([pack_key(pack)])
    damages = (await look(store, tmp_path)).damages
    assert {damage.kind for damage in damages} == {"checkpoint", "pack"}
    assert any(damage.name == checkpoint_key(name) for damage in damages)


async def test_a_block_that_is_damaged(store: MemoryStore, tmp_path: Path) -> None:
    """A directory would be unreadable one day, in a volume whose every byte was verified."""
    _, found = await newest(store)
    pack = max(found.packs())
    data = bytearray(store.peek(pack_key(pack)))
    data[3] ^= 1
    await store.put(pack_key(pack), bytes(data))
    damages = (await look(store, tmp_path, read_data=True)).damages
    assert {damage.kind for damage in damages} == {"checkpoint", "pack"}


@pytest.mark.parametrize(
    "changes",
    [{"chain": bytes(32)}, {"counters": Counters(1, 2, bytes(16))}, {"granted_to": 3}],
)
async def test_one_that_says_something_else(
    store: MemoryStore, tmp_path: Path, changes: dict[str, object]
) -> None:
    """Who began from it would see another tree than who followed the log."""
    _, found = await newest(store)
    name = await name_another(store, replace(found, **changes))  # type: ignore[arg-type]
    damage = only(await look(store, tmp_path))
    assert damage.name == checkpoint_key(name)
    assert "at commit 2" in damage.problem


async def test_one_that_lacks_rows(store: MemoryStore, tmp_path: Path) -> None:
    """Who began from it would miss files."""
    _, found = await newest(store)
    dirents = found.tables[1]
    lacking = replace(dirents, refs=dirents.refs[1:])
    tables = (found.tables[0], lacking, *found.tables[2:])
    name = await name_another(store, replace(found, tables=tables))
    assert (await look(store, tmp_path)).damages == ()
    damage = only(await look(store, tmp_path, read_data=True))
    assert damage.name == checkpoint_key(name)


async def test_one_with_other_rows(store: MemoryStore, tmp_path: Path) -> None:
    """Who began from it would be refused by the next commit, or commit to other files."""
    _, found = await newest(store)
    (clients,) = (root for root in found.tables if root.table.name == "CLIENTS")
    other = replace(clients, rows=((bytes(16), clients.rows[0][1]),))
    tables = tuple(other if root is clients else root for root in found.tables)
    await name_another(store, replace(found, tables=tables))
    assert "another tree" in only(await look(store, tmp_path, read_data=True)).problem


class TestCutLog:
    async def test_it_is_checked_from_the_checkpoint_on(
        self, store: MemoryStore, tmp_path: Path
    ) -> None:
        """A volume that was collected could never be checked again."""
        await cut(store, 2)
        report = await look(store, tmp_path, read_data=True, state_dir=tmp_path / "state")
        assert report.damages == ()
        assert (report.checkpoints, report.files) == (1, 30)

    async def test_without_a_checkpoint_nothing_is_whole(
        self, store: MemoryStore, tmp_path: Path
    ) -> None:
        """A volume that lost all but its tail would be called whole, because its tail is."""
        name, _ = await newest(store)
        await cut(store, 2)
        await store.delete_many([checkpoint_key(name)])
        with pytest.raises(Damaged, match="a checkpoint is gone"):
            await look(store, tmp_path)


class TestRebuild:
    async def rebuilt(self, store: MemoryStore, tmp_path: Path) -> tuple[Seq, Seq, str | None]:
        state = tmp_path / "state"
        checked = await look_closely(store, tmp_path, state_dir=state)
        rebuilt = await repair(store, checked, state, Env())
        async with open_kept_tree(state / TREE, checked.volume.info.id) as tree:
            return rebuilt.seq, rebuilt.begun_at, tree.base

    async def test_it_begins_from_a_checkpoint(self, store: MemoryStore, tmp_path: Path) -> None:
        """A rebuild of a large volume would take as long as its whole history."""
        name, _ = await newest(store)
        assert await self.rebuilt(store, tmp_path) == (3, 2, name)

    async def test_it_does_without_one_that_is_damaged(
        self, store: MemoryStore, tmp_path: Path
    ) -> None:
        """A rebuild would put the damage into the tree that it was to mend."""
        _, found = await newest(store)
        await store.delete_many([pack_key(pack) for pack in found.packs()])
        seq, begun_at, base = await self.rebuilt(store, tmp_path)
        assert (seq, begun_at, base) == (3, 0, None)

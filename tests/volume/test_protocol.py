"""Creation, commits and their replay together, on every kind of store.

Stores say no to a put in different ways; that exactly one client wins, and that all of them end
with the same tree, must hold on each.
"""

import os
import random
from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import trio

from blobfs.env import Env
from blobfs.errors import OutcomeUnknown
from blobfs.folders import make
from blobfs.formats.client import ClientRecord
from blobfs.formats.commit import Entry, Grant, Operation
from blobfs.formats.entry import encode_entry, entry_hash
from blobfs.formats.volume import VolumeInfo
from blobfs.model.commit_outcome import Author, Outcome
from blobfs.stores.azure import open_azure
from blobfs.stores.base import Store
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.local import LocalStore
from blobfs.stores.memory import MemoryStore
from blobfs.stores.s3 import open_s3
from blobfs.types import ROOT_INODE, ClientId, InodeNo, Seq
from blobfs.volume.client import Identity, open_identity
from blobfs.volume.creation import Access, create, find_access
from blobfs.volume.log import Log
from blobfs.volume.presence import look
from blobfs.volume.registration import Copied, Registration
from blobfs.volume.tree import Tree, open_tree
from blobfs.volume.tree_rows import TABLES
from tests.servers import AzureServer, S3Server
from tests.volume.story import ROOT, new_file

INFO = VolumeInfo(id=b"v" * 16, created_ns=1)
LOST = OutcomeUnknown("the answer was lost")


@dataclass(slots=True)
class Writer:
    """A client that commits one file after the other, by the rules (L2, L3, L4, L6)."""

    log: Log
    tree: Tree
    identity: Identity
    saved: list[str] = field(default_factory=list)

    async def save(self, name: str) -> None:
        """Make a file of that name, until it is part of the volume."""
        while True:
            await self.catch_up()
            if name in self.saved:
                return
            entry = await self._entry(name)
            data = encode_entry(entry)
            await self.identity.note_attempt(entry.counter, entry_hash(data))
            await self._settle(entry.seq, data)

    async def catch_up(self) -> None:
        """Replay what is new, and note which of it was mine."""
        is_tip = False
        while not is_tip:
            await trio.lowlevel.checkpoint()
            try:
                tail = await self.log.newer(self.tree.position)
            except OutcomeUnknown:
                continue
            await self.tree.replay(tail.landed)
            for each in tail.landed:
                if self.identity.author_of(each) is Author.MINE:
                    self.saved.append(each.entry.operations[-1].name.decode())  # type: ignore[union-attr]
            is_tip = tail.is_tip

    async def _settle(self, seq: Seq, data: bytes) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            try:
                if await self.log.put(seq, data) is not Outcome.UNKNOWN:
                    return
            except OutcomeUnknown:
                continue

    async def _entry(self, name: str) -> Entry:
        tree, me = self.tree, self.identity.client
        state, mine, granted = tree.state, tree.client(me), tree.granted(me)
        operations: tuple[Operation, ...] = ()
        if tree.inode(ROOT_INODE) is None:
            operations += (ROOT,)
        if not granted:
            first = InodeNo(state.granted_to)
            operations += (Grant(first, InodeNo(first + 1000)),)
        number = granted[-1].unused if granted else state.granted_to
        counter = 1 if mine is None else mine.counter + 1
        operations += new_file(number, name.encode())
        position = state.position
        seq = Seq(position.seq + 1)
        entry = Entry(seq, position.chain, me, counter, position.seq, operations)
        return msgspec.structs.replace(entry, counters=await tree.rehearse(entry))


async def open_writer(
    stack: AsyncExitStack, store: Store, folder: Path, chance: random.Random
) -> Writer:
    volume = await create(store, VolumeInfo(id=chance.randbytes(16), created_ns=1))
    make(folder)
    env = Env(chance=chance.random)
    identity = await open_identity(folder, volume.info.id, env)
    tree = open_tree(folder / "tree.lmdb", volume.info.id, volume.origin.chain)
    return Writer(Log(store, env), await stack.enter_async_context(tree), identity)


def rows(tree: Tree) -> dict[tuple[str, bytes], bytes]:
    with tree._database.read() as reader:
        return {(table, key): row for table in TABLES for key, row in reader.range(table)}


async def race(stores: list[Store], folder: Path, files: int, seed: int) -> list[Writer]:
    """Let as many clients as there are stores save files at once; return them, all caught up.

    Their trees are compared here, because they are closed on return.
    """
    async with AsyncExitStack() as stack:
        chance = random.Random(seed)
        writers = [
            await open_writer(stack, store, folder / f"{number}", random.Random(chance.random()))
            for number, store in enumerate(stores)
        ]

        async def work(number: int) -> None:
            for count in range(files):
                await writers[number].save(f"{number}-{count}")

        async with trio.open_nursery() as nursery:
            for number in range(len(writers)):
                nursery.start_soon(work, number)
        for writer in writers:
            await writer.catch_up()
        expected = sorted(f"{n}-{c}".encode() for n in range(len(writers)) for c in range(files))
        assert [name for name, _ in writers[0].tree.dirents(ROOT_INODE)] == expected
        for writer in writers[1:]:
            assert rows(writer.tree) == rows(writers[0].tree)
        return writers


class ProtocolContract:
    """What has to hold on every store."""

    @abstractmethod
    @pytest.fixture
    async def store(self) -> AsyncIterator[Store] | Store: ...

    async def test_a_volume_is_created_and_found(self, store: Store) -> None:
        """Everything else begins with it, and its proof of exclusive puts (L8)."""
        volume = await create(store, INFO)
        assert volume.info == INFO
        assert await look(store) == await create(store, INFO) == volume
        assert await find_access(store, volume) is Access.SHARED

    async def test_clients_announce_themselves(self, store: Store) -> None:
        """If-Match is proven, and a copy is noticed (L6, L8)."""
        records = [ClientRecord(id=ClientId(b"c" * 16), host=name) for name in "abcd"]
        mine, copy = Registration(store), Registration(store)
        await mine.announce(records[0])
        await mine.announce(records[1])
        await copy.announce(records[2])
        with pytest.raises(Copied):
            await mine.announce(records[3])

    async def test_all_commits_land_once_and_all_trees_are_equal(
        self, store: Store, tmp_path: Path
    ) -> None:
        """Clients that write at once lose nothing, and see the same (P3, C6)."""
        writers = await race([store] * 3, tmp_path / "clients", 4, seed=0)
        assert [writer.saved for writer in writers] == [
            [f"{number}-{count}" for count in range(4)] for number in range(3)
        ]


class TestInMemory(ProtocolContract):
    @pytest.fixture
    async def store(self) -> Store:
        return MemoryStore()

    @pytest.mark.parametrize("seed", range(6))
    async def test_nothing_is_lost_when_answers_are(self, tmp_path: Path, seed: int) -> None:
        """Failures, lost replies and late duplicates, and still each file lands once (P3)."""
        chance = random.Random(seed)
        bucket = MemoryStore()
        await create(bucket, INFO)
        stores: list[Store] = []
        for _ in range(3):
            store = FaultyStore(bucket)
            for nth in chance.sample(range(8, 60), 12):
                getattr(store, chance.choice(("fail", "lose_reply")))("any", LOST, nth=nth)
            store.repeat_late(behind=chance.randrange(1, 4), nth=chance.randrange(2, 8))
            stores.append(store)
        writers = await race(stores, tmp_path / "clients", 3, seed)
        for number, writer in enumerate(writers):
            assert writer.saved == [f"{number}-{count}" for count in range(3)]


class TestInAFolder(ProtocolContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> Store:
        return LocalStore(make(tmp_path / "store"))


@pytest.mark.server
class TestOnSeaweedFS(ProtocolContract):
    @pytest.fixture
    async def store(
        self, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[Store]:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
        bucket = s3_server.make_bucket()
        store = await open_s3(bucket, endpoint_url=s3_server.endpoint_url, deadline_s=10)
        yield store
        await store.aclose()


@pytest.mark.server
class TestOnAzurite(ProtocolContract):
    @pytest.fixture
    async def store(
        self, azure_server: AzureServer, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[Store]:
        for name in [name for name in os.environ if name.startswith("AZURE_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azure_server.connection_string)
        store = await open_azure(
            azure_server.make_container(),
            account=None,
            endpoint_url=None,
            anonymous=False,
            deadline_s=10,
        )
        yield store
        await store.aclose()

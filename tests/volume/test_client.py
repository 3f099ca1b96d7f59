"""A client stays who it is through kills, and a copy of it becomes somebody else."""

import random
from pathlib import Path

import pytest

from blobfs.env import Env
from blobfs.errors import Changed, LocalFault
from blobfs.formats.commit import Entry
from blobfs.model.chain import Landed
from blobfs.model.commit_outcome import Author
from blobfs.types import ClientId, Seq
from blobfs.volume.client import FILE, Identity, bound_volume, open_identity, set_aside

VOLUME, OTHER = b"v" * 16, b"w" * 16
HASH = b"h" * 32


def env(seed: int = 0) -> Env:
    return Env(chance=random.Random(seed).random)


def landed(client: ClientId, counter: int, digest: bytes = HASH) -> Landed:
    return Landed(Entry(Seq(counter), b"p" * 32, client, counter, 1), digest)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
async def identity(tmp_path: Path) -> Identity:
    return await open_identity(tmp_path, VOLUME, env())


class TestIdentity:
    async def test_it_survives_a_remount(self, tmp_path: Path, identity: Identity) -> None:
        """A client that forgot what it put would take its own commits for somebody else's."""
        await identity.note_attempt(7, HASH)
        again = await open_identity(tmp_path, VOLUME, env(1))
        assert again.client == identity.client
        assert (again.last.counter, again.last.hash) == (7, HASH)
        assert names(tmp_path) == [FILE]

    async def test_ids_differ(self, tmp_path: Path, identity: Identity) -> None:
        """Two clients under one id would replay each other's commits as their own."""
        (tmp_path / "b").mkdir()
        other = await open_identity(tmp_path / "b", VOLUME, env(1))
        assert len(identity.client) == len(other.client) == 16
        assert other.client != identity.client

    async def test_own_entries_are_recognised(self, identity: Identity) -> None:
        """An own entry is never a conflict with oneself (L6)."""
        await identity.note_attempt(2, HASH)
        assert identity.author_of(landed(identity.client, 1, b"x" * 32)) is Author.MINE
        assert identity.author_of(landed(identity.client, 2)) is Author.MINE
        assert identity.author_of(landed(ClientId(b"o" * 16), 9)) is Author.OTHER

    async def test_a_copy_becomes_somebody_else(self, tmp_path: Path, identity: Identity) -> None:
        """A copied state folder would otherwise drop work, taking another's commits for its own."""
        await identity.note_attempt(2, HASH)
        before = identity.client
        for foreign in (landed(before, 2, b"x" * 32), landed(before, 3)):
            assert identity.author_of(foreign) is Author.COPY
        await identity.renew()
        assert identity.client != before
        assert identity.last.counter == 0
        assert identity.author_of(landed(before, 3)) is Author.OTHER
        assert (await open_identity(tmp_path, VOLUME, env())).client == identity.client

    async def test_a_damaged_file_is_named(self, tmp_path: Path, identity: Identity) -> None:
        """A guess would be a new client, with the old one's unsaved work."""
        (tmp_path / FILE).write_bytes(b'{"volume": ')
        with pytest.raises(LocalFault, match=FILE):
            await open_identity(tmp_path, VOLUME, env())

    async def test_a_write_that_fails_changes_nothing(
        self, tmp_path: Path, identity: Identity
    ) -> None:
        """What is not on disk must not be relied on (L2)."""
        (tmp_path / "client.json.new").mkdir()
        with pytest.raises(LocalFault, match="cannot write"):
            await identity.note_attempt(1, HASH)
        assert identity.last.counter == 0
        assert (await open_identity(tmp_path, VOLUME, env())).last.counter == 0


class TestBinding:
    """A state folder belongs to one volume (S1)."""

    async def test_a_fresh_folder_is_bound_by_its_first_volume(self, tmp_path: Path) -> None:
        """What was written before the volume existed goes into it, without a move."""
        assert await bound_volume(tmp_path) is None
        await open_identity(tmp_path, VOLUME, env())
        assert await bound_volume(tmp_path) == VOLUME

    async def test_another_volume_is_refused(self, tmp_path: Path, identity: Identity) -> None:
        """Unsaved work of one volume would be committed into another."""
        with pytest.raises(Changed, match=OTHER.hex()):
            await open_identity(tmp_path, OTHER, env())
        assert await bound_volume(tmp_path) == VOLUME

    async def test_what_belongs_to_the_old_one_is_set_aside(
        self, tmp_path: Path, identity: Identity
    ) -> None:
        """A bucket that was emptied and begun anew can be mounted, and nothing is destroyed."""
        (tmp_path / "tree.lmdb").mkdir()
        (tmp_path / "tree.lmdb" / "data.mdb").write_bytes(b"rows")
        (tmp_path / "native.lmdb").mkdir()
        aside = await set_aside(tmp_path, ["tree.lmdb", "journal"])
        assert aside is not None
        assert (aside / "tree.lmdb" / "data.mdb").read_bytes() == b"rows"
        assert names(aside) == [FILE, "tree.lmdb"]
        assert names(tmp_path) == [aside.name, "native.lmdb"]
        assert await bound_volume(tmp_path) is None
        assert await set_aside(tmp_path, ["tree.lmdb"]) is None
        assert (await open_identity(tmp_path, OTHER, env(2))).client != identity.client

    async def test_a_killed_move_goes_on(
        self, tmp_path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Half of it under the old volume and half under the new would mix the two."""
        for name in ("tree.lmdb", "journal"):
            (tmp_path / name).mkdir()
        rename = Path.rename

        def killed(path: Path, target: Path) -> Path:
            if path.name == "journal":
                raise OSError(5, "killed")
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", killed)
        with pytest.raises(LocalFault):
            await set_aside(tmp_path, ["tree.lmdb", "journal"])
        assert await bound_volume(tmp_path) == VOLUME
        monkeypatch.undo()
        aside = await set_aside(tmp_path, ["tree.lmdb", "journal"])
        assert aside is not None
        assert names(aside) == [FILE, "journal", "tree.lmdb"]

"""The tree is what the log says: the same on every client, whole, or refused."""

import hashlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from blobfs.errors import Damaged
from blobfs.formats.commit import (
    AddLinks,
    Counters,
    DropDirent,
    DropFolder,
    Grant,
    MoveFolder,
    NewInode,
    Operation,
    PutDirent,
    SetAttributes,
    SetContent,
    SetXattr,
)
from blobfs.formats.rows import Extent, ExtentList, Inline, Kind, ListPart
from blobfs.formats.tables import GrantedRange
from blobfs.model.chain import Landed, Position
from blobfs.types import FIRST_NATIVE_INODE, ROOT_INODE, ChunkId, ClientId, InodeNo, PackName, Seq
from blobfs.volume.tree import Tree, open_tree
from blobfs.volume.tree_rows import TABLES
from tests.volume.story import (
    GRANTED,
    ME,
    ORIGIN,
    PACK,
    ROOT,
    SOMEBODY,
    Story,
    chunked,
    new_file,
    new_folder,
)

VOLUME = b"v" * 16
A, B, DIR, SUB = InodeNo(2), InodeNo(3), InodeNo(10), InodeNo(11)


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Tree]:
    async with open_tree(tmp_path / "tree.lmdb", VOLUME, ORIGIN) as tree:
        yield tree


@pytest.fixture
def story() -> Story:
    return Story()


def beginning(*operations: Operation) -> tuple[Operation, ...]:
    """Return the first entry's operations: a root, numbers to give away, and more."""
    return (ROOT, GRANTED, *operations)


def rows(tree: Tree) -> dict[tuple[str, bytes], bytes]:
    """Return all rows of all tables, as they lie on the disk."""
    with tree._database.read() as reader:
        return {(table, key): row for table in TABLES for key, row in reader.range(table)}


class TestReading:
    async def test_an_empty_tree_knows_nothing(self, tree: Tree) -> None:
        """A volume without a commit must not invent names."""
        assert tree.position == Position(Seq(0), ORIGIN)
        assert tree.inode(ROOT_INODE) is None
        assert tree.dirent(ROOT_INODE, b"a") is None
        assert tree.dirents(ROOT_INODE) == []
        assert tree.counters() == Counters(0, 0, bytes(16))

    async def test_a_new_file_is_there_with_all_its_attributes(
        self, tree: Tree, story: Story
    ) -> None:
        """What was saved has to be found again, by name and by number."""
        landed = story.entry(
            *beginning(*new_file(2, b"a", b"text")),
            SetXattr(A, b"user.b", b"2"),
            SetXattr(A, b"user.a", b"1"),
            SetAttributes(A, mode=0o600, mtime_ns=-5),
        )
        await tree.replay([landed])
        name, row = tree.dirent(ROOT_INODE, b"a"), tree.inode(A)
        assert name is not None
        assert (name.inode, name.kind, name.seq) == (A, Kind.FILE, 1)
        assert row is not None
        assert (row.kind, row.mode, row.uid, row.nlink) == (Kind.FILE, 0o600, 1000, 1)
        assert (row.size_bytes, row.content, row.content_seq) == (4, Inline(b"text"), 1)
        assert (row.mtime_ns, row.ctime_ns) == (-5, 2)
        assert row.xattrs == ((b"user.a", b"1"), (b"user.b", b"2"))
        assert tree.position == landed.position
        assert tree.state.time_ns == landed.entry.time_ns

    async def test_a_directory_is_read_in_pages(self, tree: Tree, story: Story) -> None:
        """A page edge that lost a name, or another directory's name, would be seen in `ls`."""
        names = [b"\x00", b"a", b"a\x00", b"b", b"\xff" * 255]
        files = [new_file(20 + i, name, parent=DIR) for i, name in enumerate(names)]
        operations = [op for made in files for op in made]
        await tree.replay(
            [
                story.entry(
                    *beginning(*new_folder(DIR, b"d"), *operations),
                    *new_folder(DIR + 1, b"e"),
                    *new_file(30, b"x", parent=DIR + 1),
                )
            ]
        )
        found: list[bytes] = []
        while page := tree.dirents(DIR, found[-1] if found else b"", at_most=2):
            found += [name for name, _ in page]
        assert found == names
        assert tree.has_dirents(DIR)
        assert not tree.has_dirents(A)

    async def test_it_survives_a_reopen(self, tmp_path: Path, story: Story) -> None:
        """A remount that replays the whole log is slow, and impossible offline."""
        path = tmp_path / "kept"
        landed = story.entry(*beginning(*new_file(2, b"a")))
        async with open_tree(path, VOLUME, ORIGIN) as tree:
            await tree.replay([landed])
        async with open_tree(path, VOLUME, ORIGIN) as tree:
            assert tree.position == landed.position
            assert tree.dirent(ROOT_INODE, b"a") is not None


class TestChanging:
    async def test_a_file_that_no_name_leads_to_is_gone(self, tree: Tree, story: Story) -> None:
        """A hard link keeps its file; the last name takes it along, and its bytes are counted."""
        await tree.replay([story.entry(*beginning(*new_file(2, b"a", b"four")))])
        link = (AddLinks(A, 1), PutDirent(ROOT_INODE, b"link", A, Kind.FILE))
        unlink = (DropDirent(ROOT_INODE, b"a", A), AddLinks(A, -1))
        await tree.replay([story.entry(*link), story.entry(*unlink)])
        row = tree.inode(A)
        assert row is not None
        assert (row.nlink, row.seq, row.content_seq) == (1, 3, 1)
        assert tree.counters().content_bytes == 4
        await tree.replay([story.entry(DropDirent(ROOT_INODE, b"link", A), AddLinks(A, -1))])
        assert tree.inode(A) is None
        assert (tree.counters().inodes, tree.counters().content_bytes) == (1, 0)
        assert tree.counters().dirents_digest == bytes(16)

    async def test_a_rename_over_another_file(self, tree: Tree, story: Story) -> None:
        """How editors save: the old content goes, the new one has the name."""
        await tree.replay([story.entry(*beginning(*new_file(2, b"a"), *new_file(3, b"b")))])
        await tree.replay(
            [
                story.entry(
                    AddLinks(A, -1),
                    PutDirent(ROOT_INODE, b"a", B, Kind.FILE, replaces=A),
                    DropDirent(ROOT_INODE, b"b", B),
                )
            ]
        )
        assert tree.inode(A) is None
        assert [(name, row.inode) for name, row in tree.dirents(ROOT_INODE)] == [(b"a", B)]

    async def test_links_come_and_go_in_any_order(self, tree: Tree, story: Story) -> None:
        """A file moved twice in one commit must not vanish between two of its operations."""
        await tree.replay([story.entry(*beginning(*new_file(2, b"a")))])
        await tree.replay(
            [
                story.entry(
                    AddLinks(A, -1),
                    DropDirent(ROOT_INODE, b"a", A),
                    PutDirent(ROOT_INODE, b"z", A, Kind.FILE),
                    AddLinks(A, 1),
                )
            ]
        )
        assert tree.inode(A) is not None

    async def test_two_names_are_exchanged(self, tree: Tree, story: Story) -> None:
        """RENAME_EXCHANGE is one commit, and neither file is lost."""
        await tree.replay([story.entry(*beginning(*new_file(2, b"a"), *new_file(3, b"b")))])
        swap = (
            PutDirent(ROOT_INODE, b"a", B, Kind.FILE, replaces=A),
            PutDirent(ROOT_INODE, b"b", A, Kind.FILE, replaces=B),
        )
        await tree.replay([story.entry(*swap)])
        assert [row.inode for _, row in tree.dirents(ROOT_INODE)] == [B, A]

    async def test_a_directory_moves_with_all_below_it(self, tree: Tree, story: Story) -> None:
        """Renaming a directory is one small commit, whatever it holds."""
        made = (*new_folder(DIR, b"d"), *new_folder(SUB, b"s", DIR), *new_file(2, b"f", parent=SUB))
        await tree.replay([story.entry(*beginning(*made))])
        move = (
            DropDirent(DIR, b"s", SUB),
            PutDirent(ROOT_INODE, b"s", SUB, Kind.FOLDER),
            MoveFolder(SUB, ROOT_INODE),
        )
        await tree.replay([story.entry(*move)])
        row = tree.inode(SUB)
        assert row is not None
        assert row.parent == ROOT_INODE
        assert tree.dirent(SUB, b"f") is not None
        await tree.replay([story.entry(DropDirent(ROOT_INODE, b"d", DIR), DropFolder(DIR))])
        assert tree.inode(DIR) is None

    async def test_a_directory_goes_with_all_that_was_in_it(self, tree: Tree, story: Story) -> None:
        """`rm -r` is one commit, in whatever order it says so."""
        made = (*new_folder(DIR, b"d"), *new_file(2, b"f", parent=DIR))
        await tree.replay([story.entry(*beginning(*made))])
        folder = (DropFolder(DIR), DropDirent(ROOT_INODE, b"d", DIR))
        await tree.replay([story.entry(*folder, AddLinks(A, -1), DropDirent(DIR, b"f", A))])
        assert (tree.inode(DIR), tree.inode(A)) == (None, None)
        assert not tree.has_dirents(DIR)

    async def test_attributes_that_are_not_named_stay(self, tree: Tree, story: Story) -> None:
        """A chmod must not undo the chown of another client."""
        await tree.replay([story.entry(*beginning(*new_file(2, b"a")))])
        before = tree.inode(A)
        await tree.replay(
            [story.entry(SetAttributes(A, uid=7)), story.entry(SetXattr(A, b"user.x", b"1"))]
        )
        await tree.replay([story.entry(SetXattr(A, b"user.x", None), SetXattr(A, b"none", None))])
        row = tree.inode(A)
        assert before is not None
        assert row is not None
        assert (row.uid, row.gid, row.mode, row.mtime_ns) == (
            7,
            before.gid,
            before.mode,
            before.mtime_ns,
        )
        assert (row.xattrs, row.seq, row.content_seq) == ((), 4, 1)


class TestChunks:
    async def test_known_chunks_are_found_again(self, tree: Tree, story: Story) -> None:
        """Otherwise a file that is copied is uploaded a second time."""
        content = chunked(2, hole=100)
        operations = beginning(*new_file(2, b"a"))
        operations = tuple(op for op in operations if not isinstance(op, SetContent))
        await tree.replay([story.entry(*operations, content, packs=(PACK,))])
        extent = content.content.extents[0]  # type: ignore[union-attr]
        assert tree.chunk(extent.chunk) == extent
        assert tree.chunk(ChunkId(b"?" * 32)) is None

    async def test_chunks_of_long_lists_are_found_too(self, tree: Tree, story: Story) -> None:
        """A large file is cut into so many chunks that its row only names a list of them."""
        part, listed = (
            Extent(9, ChunkId(b"1" * 32), PACK, 0, 9),
            Extent(5, ChunkId(b"2" * 32), PACK),
        )
        made = beginning(*new_file(2, b"a"))
        content = SetContent(A, 5, ExtentList((ListPart(5, part),)), Seq(1))
        await tree.replay([story.entry(*made), story.entry(content, packs=(PACK,))])
        assert tree.chunk(part.chunk) == part
        assert tree.chunk(listed.chunk) is None
        await tree.note_chunks([listed, Extent(10)])
        assert tree.chunk(listed.chunk) == listed

    async def test_packs_remember_who_named_them_last(self, tree: Tree, story: Story) -> None:
        """A pack may only be collected when nothing refers to it since."""
        other = PackName(b"q" * 40)
        first = story.entry(*beginning(), packs=(PACK, other))
        await tree.replay([first, story.entry(packs=(PACK,))])
        assert tree.pack_last_seq(PACK) == 2
        assert tree.pack_last_seq(other) == 1
        assert tree.pack_last_seq(PackName(b"n" * 40)) is None

    async def test_a_pack_that_is_not_listed_is_refused(self, tree: Tree, story: Story) -> None:
        """Nobody would know that the pack is needed, and the file's bytes would be collected."""
        await tree.replay([story.entry(*beginning(*new_file(2, b"a")))])
        with pytest.raises(Damaged, match=r"not listed.*slot=2"):
            await tree.replay([story.entry(chunked(2, base=1))])


class TestNumbers:
    async def test_ranges_keep_their_high_water_mark(self, tree: Tree, story: Story) -> None:
        """A number that is used again would join a new file to the old one's pages (M1)."""
        await tree.replay([story.entry(*beginning(*new_file(7, b"a"), *new_file(5, b"b")))])
        await tree.replay([story.entry(DropDirent(ROOT_INODE, b"a", InodeNo(7)), AddLinks(7, -1))])
        await tree.replay([story.entry(Grant(1000, 1100)), story.entry(*new_file(1000, b"c"))])
        assert tree.granted(ME) == [
            GrantedRange(ME, 2, 1000, 8),
            GrantedRange(ME, 1000, 1100, 1001),
        ]
        assert tree.granted(SOMEBODY) == []
        assert tree.state.granted_to == 1100

    async def test_numbers_of_native_directories_need_no_grant(
        self, tree: Tree, story: Story
    ) -> None:
        """An adopted directory keeps the number by which the kernel knows it."""
        await tree.replay([story.entry(*beginning(*new_folder(FIRST_NATIVE_INODE + 9, b"d")))])
        assert tree.inode(InodeNo(FIRST_NATIVE_INODE + 9)) is not None

    @pytest.mark.parametrize(
        "grant", [Grant(1, 5), Grant(999, 1500), Grant(1500, 1500), Grant(2000, 2**62 + 1)]
    )
    async def test_ranges_never_overlap(self, tree: Tree, story: Story, grant: Grant) -> None:
        """Two clients would make different files under one number (M1)."""
        await tree.replay([story.entry(*beginning())])
        with pytest.raises(Damaged, match=r"cannot be granted.*slot=2"):
            await tree.replay([story.entry(grant, client=SOMEBODY)])

    async def test_ranges_lie_anywhere_side_by_side(self, tree: Tree, story: Story) -> None:
        """Clients choose theirs by chance before they ever met; a free one is theirs (M1)."""
        ranges = [Grant(5000, 6000), Grant(2000, 3000), Grant(3000, 5000), Grant(6000, 6001)]
        await tree.replay([story.entry(*beginning())])
        await tree.replay([story.entry(each, client=SOMEBODY) for each in ranges])
        assert [each.first for each in tree.granted(SOMEBODY)] == [2000, 3000, 5000, 6000]
        for taken in (Grant(1999, 2001), Grant(2999, 3001), Grant(6000, 7000), Grant(1500, 9000)):
            with pytest.raises(Damaged, match="cannot be granted"):
                await tree.rehearse(story.entry(taken).entry)

    async def test_one_entry_grants_no_number_twice(self, tree: Tree, story: Story) -> None:
        """Likewise, within one commit."""
        with pytest.raises(Damaged, match="cannot be granted"):
            await tree.rehearse(story.entry(*beginning(), Grant(999, 1001)).entry)

    @pytest.mark.parametrize(
        ("number", "author"), [(50, SOMEBODY), (1100, ME), (1500, ME), (1250, SOMEBODY)]
    )
    async def test_only_the_author_s_own_numbers_are_taken(
        self, tree: Tree, story: Story, number: int, author: ClientId
    ) -> None:
        """Likewise (M1)."""
        await tree.replay([story.entry(*beginning()), story.entry(Grant(1200, 1300))])
        with pytest.raises(Damaged, match="was not granted"):
            await tree.replay([story.entry(*new_file(number, b"x"), client=author)])


MADE = beginning(
    *new_file(2, b"a", b"abc"),
    *new_folder(DIR, b"d"),
    *new_folder(SUB, b"s", DIR),
    *new_file(12, b"f", parent=SUB),
    *new_folder(13, b"e"),
)
"""A tree for the refusals below: /a, /d/, /d/s/, /d/s/f, /e/."""

MISSING = InodeNo(99)

REFUSED: dict[str, tuple[tuple[Operation, ...], str]] = {
    "content of nothing": ((SetContent(MISSING, 0, Inline(b""), Seq(0)),), "no such inode"),
    "attributes of nothing": ((SetAttributes(MISSING, mode=0),), "no such inode"),
    "xattr of nothing": ((SetXattr(MISSING, b"user.x", b""),), "no such inode"),
    "link to nothing": ((AddLinks(MISSING, 1),), "no such inode"),
    "name of nothing": ((PutDirent(ROOT_INODE, b"n", MISSING, Kind.FILE),), "no such inode"),
    "name of another kind": (
        (AddLinks(A, 1), PutDirent(ROOT_INODE, b"n", A, Kind.FIFO)),
        "no such inode",
    ),
    "name in a file": (
        (AddLinks(A, 1), PutDirent(A, b"n", A, Kind.FILE)),
        "no directory",
    ),
    "name in nothing": (
        (AddLinks(A, 1), PutDirent(MISSING, b"n", A, Kind.FILE)),
        "no directory",
    ),
    "number taken": (new_file(2, b"n"), "is taken"),
    "number taken, freed here": (
        (DropDirent(ROOT_INODE, b"a", A), AddLinks(A, -1), *new_file(2, b"n")),
        "is taken",
    ),
    "number of a directory that goes": (
        (
            DropDirent(ROOT_INODE, b"e", InodeNo(13)),
            DropFolder(InodeNo(13)),
            *new_file(13, b"n"),
        ),
        "is taken",
    ),
    "content from another version": (
        (SetContent(A, 0, Inline(b""), Seq(0)),),
        "another version",
    ),
    "a name that is taken": (
        (AddLinks(A, 1), PutDirent(DIR, b"s", A, Kind.FILE)),
        "another inode",
    ),
    "a name that is gone": ((DropDirent(ROOT_INODE, b"z", A), AddLinks(A, -1)), "another inode"),
    "a name without a link": ((PutDirent(ROOT_INODE, b"n", A, Kind.FILE),), "do not agree"),
    "a link without a name": ((AddLinks(A, 1),), "do not agree"),
    "one link too few": ((DropDirent(ROOT_INODE, b"a", A), AddLinks(A, -2)), "more names"),
    "a file that stays behind": ((DropDirent(ROOT_INODE, b"a", A),), "do not agree"),
    "a link to a directory": ((AddLinks(DIR, 1),), "one name"),
    "a second name of a directory": (
        (PutDirent(SUB, b"again", SUB, Kind.FOLDER),),
        "does not lie",
    ),
    "a directory that is not empty": (
        (DropDirent(ROOT_INODE, b"d", DIR), DropFolder(DIR)),
        "has entries",
    ),
    "a name to a directory that is gone": (
        (
            DropDirent(SUB, b"f", InodeNo(12)),
            AddLinks(InodeNo(12), -1),
            DropFolder(SUB),
        ),
        "do not agree",
    ),
    "no directory to drop": ((DropFolder(A),), "no directory that can go"),
    "the root": ((DropFolder(ROOT_INODE),), "no directory that can go"),
    "no directory to move": ((MoveFolder(A, DIR),), "no directory that can move"),
    "a directory below itself": (
        (
            DropDirent(ROOT_INODE, b"d", DIR),
            PutDirent(SUB, b"d", DIR, Kind.FOLDER),
            MoveFolder(DIR, SUB),
        ),
        "below the root",
    ),
    "a directory without a name": (
        (NewInode(InodeNo(50), Kind.FOLDER, 0, 0, 0, 0, 0, parent=ROOT_INODE),),
        "do not agree",
    ),
    "a directory that lies in a file": (new_folder(50, b"n", A), "no directory"),
}


class TestRefusing:
    @pytest.mark.parametrize(("operations", "words"), REFUSED.values(), ids=REFUSED.keys())
    async def test_what_cannot_be_applied(
        self, tree: Tree, story: Story, operations: tuple[Operation, ...], words: str
    ) -> None:
        """Guessing what a commit meant would give every client a tree of its own (L1)."""
        await tree.replay([story.entry(*MADE)])
        before = rows(tree)
        landed = story.entry(*operations)
        with pytest.raises(Damaged, match=f"{words}.*slot=2"):
            await tree.rehearse(landed.entry)
        with pytest.raises(Damaged, match=f"{words}.*slot=2"):
            await tree.replay([landed])
        assert rows(tree) == before

    async def test_a_broken_chain(self, tree: Tree, story: Story) -> None:
        """A log that was swapped under us is another history (L4)."""
        await tree.replay([story.entry(*MADE)])
        story.previous = b"x" * 32
        with pytest.raises(Damaged, match=r"does not continue.*slot=2"):
            await tree.replay([story.entry(SetAttributes(A, mode=0))])
        assert tree.position.seq == 1

    async def test_a_batch_with_a_bad_entry_changes_nothing(self, tree: Tree, story: Story) -> None:
        """Half of a batch would leave the tree between two reads of `head` (L4)."""
        good, bad = story.entry(*MADE), story.entry(AddLinks(A, 5))
        with pytest.raises(Damaged):
            await tree.replay([good, bad])
        assert tree.position.seq == 0

    async def test_counters_that_do_not_fit(self, tree: Tree, story: Story) -> None:
        """Trees that drifted apart are noticed, not inherited (L9)."""
        await tree.replay([story.entry(*MADE)])
        right = tree.counters()
        await tree.replay([story.entry(expected=right)])
        for wrong in (
            Counters(right.inodes + 1, right.content_bytes, right.dirents_digest),
            Counters(right.inodes, right.content_bytes + 1, right.dirents_digest),
            Counters(right.inodes, right.content_bytes, bytes(16)),
        ):
            with pytest.raises(Damaged, match=r"not the one that the author had.*slot="):
                await tree.rehearse(story.entry(expected=wrong).entry)

    async def test_a_counter_of_an_author_that_does_not_grow(
        self, tree: Tree, story: Story
    ) -> None:
        """An entry that landed twice, or two clients under one id, would go unnoticed (L6)."""
        await tree.replay([story.entry(*MADE)])
        story.counters[ME] = 0
        with pytest.raises(Damaged, match=r"does not grow.*slot=2"):
            await tree.replay([story.entry()])
        client = tree.client(ME)
        assert client is not None
        assert (client.counter, client.seq) == (1, 1)
        assert tree.client(SOMEBODY) is None


class TestRehearsing:
    async def test_it_says_the_counters_and_changes_nothing(self, tree: Tree, story: Story) -> None:
        """The author writes into the entry what others will check."""
        await tree.replay([story.entry(*MADE)])
        before = rows(tree)
        landed = story.entry(*new_file(20, b"new", b"12345"))
        counters = await tree.rehearse(landed.entry)
        assert rows(tree) == before
        await tree.replay([landed])
        assert tree.counters() == counters
        assert (counters.inodes, counters.content_bytes) == (7, 8)

    async def test_the_digest_is_what_the_format_says(self, tree: Tree, story: Story) -> None:
        """Another implementation has to come to the same number."""
        import xxhash

        await tree.replay([story.entry(*MADE)])
        names = [(1, b"a", 2), (1, b"d", 10), (10, b"s", 11), (11, b"f", 12), (1, b"e", 13)]
        digest = 0
        for parent, name, inode in names:
            data = parent.to_bytes(8, "big") + name + inode.to_bytes(8, "big")
            digest ^= int(xxhash.xxh3_128_hexdigest(data), 16)
        assert tree.counters().dirents_digest == digest.to_bytes(16, "big")


def long_story(chance: random.Random) -> list[Landed]:
    """Return a log of some entries, of many operations each, told in a random order."""
    story, log = Story(), []
    groups: list[tuple[Operation, ...]] = [
        (*new_file(20 + i, b"f%d" % i, b"x" * i), SetXattr(InodeNo(20 + i), b"user.n", b"%d" % i))
        for i in range(20)
    ]
    groups.append((*new_folder(DIR, b"d"), *new_file(12, b"in", parent=DIR)))
    log.append(groups)
    log.append(
        [
            (
                SetAttributes(InodeNo(20 + i), mode=0o400 + i),
                AddLinks(InodeNo(20 + i), 1),
                PutDirent(DIR, b"l%d" % i, InodeNo(20 + i), Kind.FILE),
            )
            for i in range(0, 20, 2)
        ]
    )
    log.append(
        [
            (DropDirent(ROOT_INODE, b"f%d" % i, InodeNo(20 + i)), AddLinks(InodeNo(20 + i), -1))
            for i in range(0, 20, 3)
        ]
    )
    told = []
    for number, entry in enumerate(log):
        chance.shuffle(entry)
        operations = [op for group in entry for op in group]
        first = (ROOT, GRANTED) if number == 0 else ()
        told.append(story.entry(*first, *operations))
        story.previous = hashlib.sha256(b"%d" % number).digest()  # the same for every order
        told[-1] = Landed(told[-1].entry, story.previous)
    return told


class TestTheSameEverywhere:
    @pytest.mark.parametrize("batches", [[3], [1, 2], [1, 1, 1]])
    async def test_rows_are_byte_identical(
        self, tree: Tree, tmp_path: Path, batches: list[int]
    ) -> None:
        """Two clients at one seq hold the same rows, however they came there (C6)."""
        await tree.replay(long_story(random.Random(0)))
        async with open_tree(tmp_path / "other", VOLUME, ORIGIN) as other:
            log = long_story(random.Random(len(batches)))
            for count in batches:
                await other.replay(log[:count])
                log = log[count:]
            assert rows(other) == rows(tree)


class TestOpening:
    async def test_another_volume_s_tree_is_begun_anew(self, tmp_path: Path, story: Story) -> None:
        """Rows of another volume would be shown as this one's files."""
        path = tmp_path / "kept"
        async with open_tree(path, VOLUME, ORIGIN) as tree:
            await tree.replay([story.entry(*MADE)])
        async with open_tree(path, b"w" * 16, b"p" * 32) as tree:
            assert tree.position == Position(Seq(0), b"p" * 32)
            assert tree.inode(ROOT_INODE) is None

    @pytest.mark.parametrize("harm", [lambda data: b"\xff" * len(data), lambda data: data[:100]])
    async def test_a_damaged_tree_is_begun_anew(
        self, tmp_path: Path, harm: Callable[[bytes], bytes]
    ) -> None:
        """A bad disk must not keep anybody from a bucket that is whole."""
        path = tmp_path / "kept"
        async with open_tree(path, VOLUME, ORIGIN):
            pass
        file = path / "data.mdb"
        file.write_bytes(harm(file.read_bytes()))
        async with open_tree(path, VOLUME, ORIGIN) as tree:
            assert tree.position == Position(Seq(0), ORIGIN)

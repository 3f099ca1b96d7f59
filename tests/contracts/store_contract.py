"""State what every store must do, once, for all of them.

A store's own test module is a subclass that says how to make one and how to look at its
bytes without it:

    class TestMemoryStore(StoreContract):
        @pytest.fixture
        async def store(self): ...
        async def peek(self, store, key): ...

What a kind of store cannot hold by its nature is data on the subclass; a store may then
refuse such a key, and must not change it.
"""

import random
import time
from abc import abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

import pytest
import trio

from blobfs.errors import (
    AlreadyExists,
    BlobfsError,
    Changed,
    NotFound,
    OutcomeUnknown,
    Unsupported,
    UsageError,
)
from blobfs.stores.base import MAX_PAGE_KEYS, Store
from blobfs.types import MIB, ByteRange, ListPage, ObjectInfo

ODD_KEYS = (
    "with space",
    " leading and trailing ",
    "per%cent",
    "already%20encoded",
    "plus+plus",
    "hash#tag",
    "quest?ion=1",
    "amp&ersand;semi:colon",
    '<tag attr="quo\'te">]]>',
    "ümläut",
    "e\u0301 is two code points, \u00e9 one",
    "日本語/ファイル 名",
    "emoji 😀",
    "star*[x]{y}|~^`$,@=!",
    ".hidden",
    "dot.",
    "...",
    "folder.with.dots/..file..",
    "non\u00a0breaking and \u200bzero width",
    "\ufeff byte order mark",
)
"""Keys that every store holds."""

RARE_KEYS = (
    "double//slash",
    "/leading slash",
    "trailing slash with content/",
    "./dot segment",
    "dot/./segment",
    "dot/../dot",
    "..",
    "back\\slash",
    "line\nfeed",
    "carriage\rreturn",
    "tab\tstop",
    "control\x01character",
    "n" * 300,
    "/".join(["deep"] * 200),
)
"""Keys that a store may refuse, because it cannot hold them; but never change."""

ORDERED_KEYS = (
    "A",
    "a!/x",
    "a-b",
    "a.b",
    "a/b",
    "a/c/d",
    "a/c/e",
    "a0b",
    "b",
    "z/",
    "z/1",
    "é/x",
    "\ufb01/x",
    "\uff21",
    "\uffee/x",
    "\U00010000/x",
    "\U0001f600",
)
"""In order of their UTF-8 bytes, which UTF-16 order is not: U+10000 before U+FB01 there."""


def body(size_bytes: int, seed: int = 0) -> bytes:
    """Return bytes that no other seed gives, so that a mix-up shows."""
    return random.Random(seed).randbytes(size_bytes)


async def put_all(store: Store, keys: Iterable[str], data: bytes = b"x") -> None:
    """Store `data` under each of `keys`, as many at once as the store likes."""
    slots = trio.CapacityLimiter(store.traits.parallel)

    async def put(key: str) -> None:
        async with slots:
            await store.put(key, data)

    async with trio.open_nursery() as nursery:
        for key in keys:
            nursery.start_soon(put, key)


@dataclass(frozen=True)
class Listing:
    """All pages of one listing, joined."""

    objects: tuple[ObjectInfo, ...]
    prefixes: tuple[str, ...]
    pages: tuple[ListPage, ...]

    @property
    def keys(self) -> list[str]:
        return [found.key for found in self.objects]


async def list_all(
    store: Store,
    prefix: str = "",
    *,
    delimiter: bool = False,
    start_after: str = "",
    max_keys: int = MAX_PAGE_KEYS,
) -> Listing:
    """Follow the tokens to the end; a token that comes twice is a loop."""
    pages: list[ListPage] = []
    token: str | None = None
    seen: set[str] = set()
    while True:
        page = await store.list(
            prefix, delimiter=delimiter, start_after=start_after, max_keys=max_keys, token=token
        )
        assert len(page.objects) + len(page.prefixes) <= max_keys
        pages.append(page)
        token = page.next_token
        if token is None:
            break
        assert token not in seen, f"the listing goes round in circles: {token!r}"
        seen.add(token)
    return Listing(
        tuple(found for page in pages for found in page.objects),
        tuple(found for page in pages for found in page.prefixes),
        tuple(pages),
    )


def expected_listing(
    keys: Iterable[str], prefix: str, delimiter: bool, start_after: str
) -> tuple[list[str], list[str]]:
    """Say what a listing must hold, by a model too simple to be wrong: keys, prefixes."""
    objects: set[str] = set()
    prefixes: set[str] = set()
    for key in keys:
        if not key.startswith(prefix):
            continue
        head, slash, _ = key[len(prefix) :].partition("/")
        if delimiter and slash:
            prefixes.add(prefix + head + slash)
        else:
            objects.add(key)
    return (
        sorted((key for key in objects if key > start_after), key=str.encode),
        sorted((found for found in prefixes if found > start_after), key=str.encode),
    )


class Tray:
    """An inbox that remembers what it held whenever something had arrived."""

    def __init__(self, size_bytes: int) -> None:
        self.buffer = memoryview(bytearray(size_bytes))
        self.seen: list[tuple[ObjectInfo, int, bytes]] = []

    def arrived(self, info: ObjectInfo, count: int) -> None:
        self.seen.append((info, count, bytes(self.buffer[:count])))


class StoreContract:
    """What holds for each store."""

    prefix_may_be_object = True
    """Both `a` and `a/b` may be objects."""
    slash_may_hold_content = True
    """An object whose key ends with `/` may have a body, and others beside it."""
    sorted_listing = True
    """What `StoreTraits.sorted_listing` says, the store keeps."""
    races = 4
    """Races run, each of 8; fewer where the server is slow to decide them."""

    @property
    def ordered_keys(self) -> tuple[str, ...]:
        """Those of `ORDERED_KEYS` that this kind of store holds."""
        markers = self.slash_may_hold_content
        return tuple(key for key in ORDERED_KEYS if markers or not key.endswith("/"))

    @pytest.fixture
    @abstractmethod
    async def store(self) -> Store:
        """Give an empty store, and take it away after the test."""

    @abstractmethod
    async def peek(self, store: Store, key: str) -> bytes:
        """Return the bytes under `key` by another way than `store`."""

    # -- put, get, head ---------------------------------------------------------------

    @pytest.mark.parametrize("size_bytes", [0, 1, 1000, 5 * 1024 * 1024 + 1])
    async def test_what_was_put_is_there(self, store: Store, size_bytes: int) -> None:
        """Or a file that was saved would come back as another one."""
        data = body(size_bytes)
        etag = await store.put("folder/file", data)
        assert await self.peek(store, "folder/file") == data
        fetched = await store.get("folder/file")
        assert bytes(fetched.data) == data
        assert isinstance(fetched.data, memoryview)
        assert fetched.info.size_bytes == size_bytes
        assert fetched.info.etag == etag

    async def test_all_ways_to_ask_agree_on_what_an_object_is(self, store: Store) -> None:
        """Or each look at a file would seem to be a new version, and drop what is cached."""
        etag = await store.put("folder/file", body(3000))
        head = await store.head("folder/file")
        assert head.key == "folder/file"
        assert head.size_bytes == 3000
        assert head.etag == etag
        assert etag
        assert '"' not in etag
        assert abs(head.mtime_ns - time.time_ns()) < 600 * 10**9
        assert (await store.get("folder/file")).info == head
        assert (await store.get("folder/file", span=ByteRange(5, 9))).info == head
        assert (await store.list("folder/")).objects == (head,)

    async def test_a_put_replaces_the_object_and_its_version(self, store: Store) -> None:
        """Or a reader would mix the blocks of two versions."""
        first = await store.put("key", b"first")
        second = await store.put("key", b"second!")
        assert first != second
        fetched = await store.get("key")
        assert (bytes(fetched.data), fetched.info.etag) == (b"second!", second)

    async def test_a_body_may_be_part_of_a_buffer_that_is_used_again(self, store: Store) -> None:
        """Or a pack cut from a large buffer would carry its neighbour's bytes."""
        buffer = bytearray(body(1000))
        wanted = bytes(buffer[100:300])
        await store.put("key", memoryview(buffer)[100:300])
        buffer[:] = bytes(1000)
        assert bytes((await store.get("key")).data) == wanted

    async def test_what_is_not_there_is_not_found(self, store: Store) -> None:
        """Or a program would see an empty file in place of "no such file"."""
        await store.put("folder/file", b"x")
        for key in ("fil", "folder", "folder/", "folder/fil", "folder/file2", "folder/file/x"):
            with pytest.raises(NotFound, match=key):
                await store.get(key)
            with pytest.raises(NotFound, match=key):
                await store.get(key, span=ByteRange(0, 10))
            with pytest.raises(NotFound, match=key):
                await store.head(key)

    async def test_keys_with_and_without_a_final_slash_are_two_keys(self, store: Store) -> None:
        """Or looking up a file would find the marker of a folder, and the other way round."""
        await store.put("marker/", b"")
        assert (await store.head("marker/")).size_bytes == 0
        assert (await store.head("marker/")).key == "marker/"
        with pytest.raises(NotFound):
            await store.head("marker")
        with pytest.raises(NotFound):
            await store.get("marker")
        await store.put("file", b"x")
        with pytest.raises(NotFound):
            await store.head("file/")

    # -- ranges -----------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("start", "stop"),
        [(0, 1), (0, 1000), (0, 5000), (1, 2), (400, 600), (999, 1000), (900, 1100)],
    )
    async def test_a_span_gives_these_bytes(self, store: Store, start: int, stop: int) -> None:
        """Or a read in the middle of a file would give other bytes."""
        data = body(1000)
        await store.put("key", data)
        fetched = await store.get("key", span=ByteRange(start, stop))
        assert bytes(fetched.data) == data[start:stop]
        assert fetched.info.size_bytes == 1000

    @pytest.mark.parametrize("size_bytes", [0, 10])
    @pytest.mark.parametrize("behind", [0, 1, 5000])
    async def test_a_span_behind_the_end_gives_nothing(
        self, store: Store, size_bytes: int, behind: int
    ) -> None:
        """Or reading at the end of a file would be an error."""
        etag = await store.put("key", body(size_bytes))
        start = size_bytes + behind
        fetched = await store.get("key", span=ByteRange(start, start + 100), if_match=etag)
        assert bytes(fetched.data) == b""
        assert fetched.info == await store.head("key")

    async def test_a_span_behind_the_end_still_asks_for_the_version(self, store: Store) -> None:
        """Or a file that shrank would look like one that ended there all along."""
        old = await store.put("key", body(100))
        await store.put("key", body(10))
        with pytest.raises(Changed):
            await store.get("key", span=ByteRange(50, 60), if_match=old)

    async def test_an_empty_span_is_a_mistake(self, store: Store) -> None:
        """Or a fault in a caller would go out as a request for the whole object."""
        await store.put("key", b"x")
        with pytest.raises(ValueError, match="span"):
            await store.get("key", span=ByteRange(3, 3))

    async def test_bytes_that_arrive_are_handed_over_in_order(self, store: Store) -> None:
        """Or a file would be read wrong only while it is still on its way."""
        data = body(3 * MIB + 5)
        etag = await store.put("key", data)
        span = ByteRange(7, len(data) - 7)
        tray = Tray(len(span))
        fetched = await store.get_into("key", tray, span=span, if_match=etag)
        assert bytes(fetched.data) == data[7:-7]
        assert fetched.info == await store.head("key")
        for info, count, seen in tray.seen:
            assert info == fetched.info
            assert seen == data[7 : 7 + count]

    async def test_bytes_that_arrive_end_where_the_object_does(self, store: Store) -> None:
        """Or the end of a file that is read in large steps would be an error."""
        data = body(1000)
        etag = await store.put("key", data)
        for start, expected in ((900, data[900:]), (1000, b""), (5000, b"")):
            span = ByteRange(start, start + 500)
            fetched = await store.get_into("key", Tray(500), span=span, if_match=etag)
            assert bytes(fetched.data) == expected
            assert fetched.info == await store.head("key")

    async def test_nothing_is_handed_over_of_another_version(self, store: Store) -> None:
        """Or the first bytes read would be of one version and the last of another."""
        old = await store.put("key", body(3 * MIB))
        await store.put("key", body(2 * MIB))
        tray = Tray(MIB)
        with pytest.raises(Changed):
            await store.get_into("key", tray, span=ByteRange(0, MIB), if_match=old)
        assert not [info for info, _, _ in tray.seen if info.etag == old]

    # -- versions ---------------------------------------------------------------------

    async def test_get_of_a_version_gives_that_one_or_says_changed(self, store: Store) -> None:
        """Or one open file would read blocks of two versions."""
        old = await store.put("key", b"old")
        assert bytes((await store.get("key", if_match=old)).data) == b"old"
        new = await store.put("key", b"new")
        for span in (None, ByteRange(0, 2)):
            with pytest.raises(Changed, match="key"):
                await store.get("key", span=span, if_match=old)
        fetched = await store.get("key", span=ByteRange(0, 2), if_match=new)
        assert bytes(fetched.data) == b"ne"
        with pytest.raises(NotFound):
            await store.get("absent", if_match=new)

    async def test_put_if_absent_keeps_what_is_there(self, store: Store) -> None:
        """Or two clients would write the same log slot."""
        etag = await store.put("log/1", b"first", if_absent=True)
        with pytest.raises(AlreadyExists, match="log/1"):
            await store.put("log/1", b"second", if_absent=True)
        fetched = await store.get("log/1")
        assert (bytes(fetched.data), fetched.info.etag) == (b"first", etag)

    async def test_put_if_absent_after_a_delete(self, store: Store) -> None:
        """Or a name would be lost for ever once it was deleted."""
        await store.put("key", b"first", if_absent=True)
        await store.delete_many(["key"])
        await store.put("key", b"second", if_absent=True)
        assert await self.peek(store, "key") == b"second"

    async def test_put_if_match_replaces_that_version_only(self, store: Store) -> None:
        """Or the newest checkpoint would be replaced by an older one."""
        first = await store.put("head", b"first")
        second = await store.put("head", b"second", if_match=first)
        assert second != first
        with pytest.raises(Changed, match="head"):
            await store.put("head", b"third", if_match=first)
        fetched = await store.get("head")
        assert (bytes(fetched.data), fetched.info.etag) == (b"second", second)

    async def test_put_if_match_of_what_is_gone_creates_nothing(self, store: Store) -> None:
        """Or a deleted object would come back."""
        etag = await store.put("head", b"first")
        await store.delete_many(["head"])
        with pytest.raises(Changed):
            await store.put("head", b"second", if_match=etag)
        with pytest.raises(NotFound):
            await store.head("head")

    async def _race(self, store: Store, key: str, if_match: str | None) -> None:
        """Let eight put at once, under a condition that only one can meet."""
        won: list[bytes] = []

        async def put(data: bytes) -> None:
            try:
                if if_match is None:
                    await store.put(key, data, if_absent=True)
                else:
                    await store.put(key, data, if_match=if_match)
            except (AlreadyExists, Changed, OutcomeUnknown):
                return
            won.append(data)

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(put, f"runner {number}".encode())
        assert len(won) == 1
        assert await self.peek(store, key) == won[0]

    async def test_a_race_to_create_has_one_winner(self, store: Store) -> None:
        """Or two commits would both believe that they landed, and one edit would vanish."""
        for turn in range(self.races):
            await self._race(store, f"log/{turn}", None)

    async def test_a_race_to_replace_has_one_winner(self, store: Store) -> None:
        """Or the head would forget a checkpoint that somebody was promised."""
        for _ in range(self.races):
            await self._race(store, "head", await store.put("head", b"start"))

    # -- listing ----------------------------------------------------------------------

    async def test_an_empty_store_lists_nothing(self, store: Store) -> None:
        """Or a new bucket could not be mounted."""
        for delimiter in (False, True):
            page = await store.list(delimiter=delimiter)
            assert page == ListPage((), (), None)
        assert (await list_all(store, "no/such/prefix")).pages[-1] == ListPage((), (), None)

    @pytest.mark.parametrize("delimiter", [False, True])
    @pytest.mark.parametrize("prefix", ["", "a", "a/", "a/c", "a/c/", "z/", "é", "\uff21", "no/"])
    async def test_listing_is_the_same_at_every_page_size(
        self, store: Store, prefix: str, delimiter: bool
    ) -> None:
        """Or a name at the seam of two pages would be missing from its folder, or twice in it."""
        await put_all(store, self.ordered_keys)
        objects, prefixes = expected_listing(self.ordered_keys, prefix, delimiter, "")
        for max_keys in (1, 2, 3, 5, 7, len(self.ordered_keys), 1000):
            found = await list_all(store, prefix, delimiter=delimiter, max_keys=max_keys)
            assert self._order(found.keys) == objects, f"max_keys={max_keys}"
            assert self._order(found.prefixes) == prefixes, f"max_keys={max_keys}"

    @pytest.mark.parametrize("delimiter", [False, True])
    async def test_pages_follow_each_other_in_order(self, store: Store, delimiter: bool) -> None:
        """Or a listing that two pages are merged from would lose the names in between."""
        keys = [key for key in self.ordered_keys if self.sorted_listing or key > "b"]
        await put_all(store, keys)
        found = await list_all(store, delimiter=delimiter, max_keys=3)
        seen: list[bytes] = []
        for page in found.pages:
            names = [entry.key.encode() for entry in page.objects]
            names += [entry.encode() for entry in page.prefixes]
            seen += sorted(names)
        assert seen == sorted(seen)

    @pytest.mark.parametrize("delimiter", [False, True])
    @pytest.mark.parametrize("max_keys", [2, 1000])
    async def test_start_after_leaves_out_what_comes_before(
        self, store: Store, delimiter: bool, max_keys: int
    ) -> None:
        """Or a walk that goes on where it stopped would lose names, or see them twice."""
        await put_all(store, self.ordered_keys)
        between = ("a", "a/", "a/bb", "a/c", "a/c/", "a0", "z", "zz", "\U0010ffff")
        starts = (*self.ordered_keys, *between)
        for start_after in starts:
            objects, prefixes = expected_listing(self.ordered_keys, "", delimiter, start_after)
            found = await list_all(
                store, delimiter=delimiter, start_after=start_after, max_keys=max_keys
            )
            if self.sorted_listing:
                assert found.keys == objects, f"start_after={start_after!r}"
                assert list(found.prefixes) == prefixes, f"start_after={start_after!r}"
            assert set(found.keys) <= set(objects)
            assert set(found.prefixes) <= set(prefixes)

    def _order(self, names: Iterable[str]) -> list[str]:
        return list(names) if self.sorted_listing else sorted(names)

    async def test_keys_of_one_folder_come_together(self, store: Store) -> None:
        """Or a walk would call a folder complete when half of it is still to come."""
        await put_all(store, self.ordered_keys)
        for max_keys in (3, 1000):
            keys = (await list_all(store, max_keys=max_keys)).keys
            for folder in ("a/", "a/c/", "z/"):
                inside = [key.startswith(folder) for key in keys]
                assert sum(inside) == len(inside) - inside.index(True) - inside[::-1].index(True)

    async def test_start_after_below_a_prefix(self, store: Store) -> None:
        """Or a look for one name in a folder would have to read all of it."""
        await put_all(store, self.ordered_keys)
        found = await list_all(store, "a/", start_after="a/b")
        assert found.keys == ["a/c/d", "a/c/e"]
        found = await list_all(store, "a/", delimiter=True, start_after="a/b")
        assert (found.keys, found.prefixes) == ([], ("a/c/",))
        found = await list_all(store, "a/", start_after="A")
        assert found.keys == ["a/b", "a/c/d", "a/c/e"]
        assert (await list_all(store, "a/", start_after="b")).keys == []

    async def test_a_prefix_need_not_end_with_a_slash(self, store: Store) -> None:
        """Or a mount of `bucket/pre` would show nothing where keys begin with `prefix-`."""
        await put_all(store, ["pre", "pref/x", "prefix-1", "prefix-2/y", "other"])
        found = await list_all(store, "pref", delimiter=True)
        assert (found.keys, found.prefixes) == (["prefix-1"], ("pref/", "prefix-2/"))

    async def test_a_page_holds_at_most_a_thousand(self, store: Store) -> None:
        """Or a folder of many files would be cut off at the first page."""
        keys = [f"many/{number:05}" for number in range(1001)]
        await put_all(store, keys)
        found = await list_all(store, "many/", delimiter=True)
        assert found.keys == keys
        assert len(found.pages) >= 2

    async def test_markers_are_listed_as_objects(self, store: Store) -> None:
        """Or an empty folder that another tool made would not be there."""
        stays = ["full/"] if self.slash_may_hold_content else []
        await put_all(store, ["empty/", "full/", "full/a"], b"")
        assert (await list_all(store)).keys == ["empty/", *stays, "full/a"]
        root = await list_all(store, delimiter=True)
        assert (root.keys, root.prefixes) == ([], ("empty/", "full/"))
        assert (await list_all(store, "empty/", delimiter=True)).keys == ["empty/"]
        assert (await list_all(store, "full/", delimiter=True)).keys == [*stays, "full/a"]

    async def test_an_emptied_prefix_is_gone(self, store: Store) -> None:
        """Or folders would stay behind that nothing is in, and nothing can remove."""
        await put_all(store, ["folder/sub/file", "other"])
        await store.delete_many(["folder/sub/file"])
        root = await list_all(store, delimiter=True)
        assert (root.keys, root.prefixes) == (["other"], ())

    # -- keys -------------------------------------------------------------------------

    @pytest.mark.parametrize("key", ODD_KEYS)
    async def test_a_key_is_taken_literally(self, store: Store, key: str) -> None:
        """Or a file with such a name could not be read, or would be another file."""
        await self._round_trip(store, key)

    @pytest.mark.parametrize("key", RARE_KEYS, ids=lambda key: ascii(key)[:40])
    async def test_a_rare_key_is_kept_as_it_is_or_refused(self, store: Store, key: str) -> None:
        """Or what was stored under one key would turn up under another, over another file."""
        try:
            await self._round_trip(store, key)
        except (UsageError, Unsupported):
            assert (await list_all(store)).keys == []

    async def _round_trip(self, store: Store, key: str) -> None:
        etag = await store.put(key, b"content")
        assert await self.peek(store, key) == b"content"
        info = await store.head(key)
        assert (info.key, info.etag) == (key, etag)
        assert bytes((await store.get(key)).data) == b"content"
        assert bytes((await store.get(key, span=ByteRange(2, 4))).data) == b"nt"
        assert (await list_all(store)).keys == [key]
        assert (await list_all(store, key)).keys == [key]
        folder = str(PurePosixPath(key).parent)
        if f"{folder}/" == key[: len(folder) + 1]:
            assert (await list_all(store, f"{folder}/", delimiter=True)).objects in [(info,), ()]
        with pytest.raises(AlreadyExists):
            await store.put(key, b"again", if_absent=True)
        assert await store.delete_many([key]) == {}
        with pytest.raises(NotFound):
            await store.head(key)

    async def test_a_key_may_be_object_and_prefix(self, store: Store) -> None:
        """Or one of the two would hide the other, with all that is below it."""
        if not self.prefix_may_be_object:
            await store.put("a/b", b"below")
            with pytest.raises((UsageError, Unsupported, AlreadyExists)):
                await store.put("a", b"beside")
            assert (await list_all(store)).keys == ["a/b"]
            return
        await store.put("a", b"beside")
        await store.put("a/b", b"below")
        assert bytes((await store.get("a")).data) == b"beside"
        assert bytes((await store.get("a/b")).data) == b"below"
        root = await list_all(store, delimiter=True)
        assert (root.keys, root.prefixes) == (["a"], ("a/",))
        for max_keys in (1, 2):
            assert (await list_all(store, max_keys=max_keys)).keys == ["a", "a/b"]
        await store.delete_many(["a"])
        assert bytes((await store.get("a/b")).data) == b"below"

    async def test_a_marker_may_hold_content(self, store: Store) -> None:
        """Or what another tool stored under `a/` would be lost."""
        if not self.slash_may_hold_content:
            with pytest.raises((UsageError, Unsupported), match="key"):
                await store.put("a/", b"content")
            assert (await list_all(store)).keys == []
            return
        etag = await store.put("a/", b"content")
        await store.put("a/b", b"below")
        assert bytes((await store.get("a/")).data) == b"content"
        listed = (await list_all(store, "a/", delimiter=True)).objects
        assert [(found.key, found.size_bytes) for found in listed] == [("a/", 7), ("a/b", 5)]
        assert listed[0].etag == etag

    # -- delete -----------------------------------------------------------------------

    async def test_delete_takes_away_these_keys_only(self, store: Store) -> None:
        """Or removing one file would take its neighbours along."""
        keys = ["a", "a-b", "b", "b/c", "marker/"] if self.prefix_may_be_object else ["a", "a-b"]
        await put_all(store, keys)
        assert await store.delete_many(["a", *(["b", "marker/"] if "b" in keys else [])]) == {}
        assert (await list_all(store)).keys == [
            key for key in keys if key not in ("a", "b", "marker/")
        ]
        with pytest.raises(NotFound):
            await store.get("a")

    async def test_deleting_what_is_absent_is_done_already(self, store: Store) -> None:
        """Or a delete whose answer was lost could never be completed."""
        await store.put("there", b"x")
        assert await store.delete_many(["absent", "there", "not/there/either"]) == {}
        assert await store.delete_many(["there"]) == {}
        assert await store.delete_many([]) == {}

    async def test_deleting_more_keys_than_one_request_takes(self, store: Store) -> None:
        """Or emptying the trash would leave everything behind the thousandth."""
        keys = [f"trash/{number:04}" for number in range(1005)]
        await put_all(store, [*keys, "kept"])
        failed: dict[str, BlobfsError] = await store.delete_many(key for key in keys)
        assert failed == {}
        assert (await list_all(store)).keys == ["kept"]

    async def test_only_the_version_that_was_meant_is_deleted(self, store: Store) -> None:
        """Or what another tool has just written would go with the version before (N5)."""
        old = await store.put("folder/key", b"old")
        new = await store.put("folder/key", b"new, and longer")
        await store.put("folder/neighbour", b"x")
        with pytest.raises(Changed):
            await store.delete_if_match("folder/key", old)
        assert await self.peek(store, "folder/key") == b"new, and longer"
        await store.delete_if_match("folder/key", new)
        with pytest.raises(NotFound):
            await store.head("folder/key")
        assert (await list_all(store)).keys == ["folder/neighbour"]

    async def test_deleting_a_version_of_what_is_absent(self, store: Store) -> None:
        """Or a delete whose answer was lost would be tried for ever (N5)."""
        etag = await store.put("key", b"x")
        await store.delete_if_match("key", etag)
        with suppress(Changed):
            await store.delete_if_match("key", etag)
        with suppress(Changed):
            await store.delete_if_match("not/there/either", etag)
        assert (await list_all(store)).keys == []

    async def test_a_marker_is_deleted_by_its_version(self, store: Store) -> None:
        """Or directories that were removed would be back for every other tool (N5)."""
        await store.put("folder/", b"")
        etag = (await store.head("folder/")).etag
        with pytest.raises(Changed):
            await store.delete_if_match("folder/", f"{etag}-not")
        await store.delete_if_match("folder/", etag)
        with pytest.raises(NotFound):
            await store.head("folder/")

    # -- waiting ----------------------------------------------------------------------

    async def test_a_call_can_be_given_up(self, store: Store) -> None:
        """Or a mount could not be unmounted while a request hangs."""
        with trio.move_on_after(0) as scope:
            await store.get("key")
        assert scope.cancelled_caught

    async def test_many_calls_at_once(self, store: Store) -> None:
        """Or busy readers would get each other's bytes."""
        wanted = {f"file {number}": body(2000, number) for number in range(40)}
        got: dict[str, bytes] = {}

        async def copy(key: str) -> None:
            await store.put(key, wanted[key])
            got[key] = bytes((await store.get(key, span=ByteRange(0, 5000))).data)

        async with trio.open_nursery() as nursery:
            for key in wanted:
                nursery.start_soon(copy, key)
        assert got == wanted


class ContainerContract:
    """What holds for each store whose container may be missing."""

    @pytest.fixture
    @abstractmethod
    async def homeless_store(self) -> Store:
        """Give a store whose bucket, container or folder does not exist."""

    async def test_a_missing_container_is_not_an_empty_one(self, homeless_store: Store) -> None:
        """Or a wrong name would mount as an empty folder, and an outage look like a wipe."""
        with pytest.raises(NotFound) as caught:
            await homeless_store.list()
        assert caught.value.hint
        with pytest.raises(NotFound):
            await homeless_store.list("folder/", delimiter=True, max_keys=1)

    async def test_nothing_can_be_put_into_a_missing_container(self, homeless_store: Store) -> None:
        """Or data would go to a place that nobody chose."""
        with pytest.raises(NotFound):
            await homeless_store.put("key", b"x")
        with pytest.raises(NotFound):
            await homeless_store.put("key", b"x", if_absent=True)
        with pytest.raises(NotFound):
            await homeless_store.get("key")

    async def test_a_missing_container_is_not_a_deleted_object(self, homeless_store: Store) -> None:
        """Or an outage would be taken for the end of what was to be deleted (P5, N5)."""
        with pytest.raises(NotFound):
            await homeless_store.delete_if_match("key", "0123456789abcdef")

"""Directories show what the bucket holds, cost what they must, and never lose a name."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
import trio
import trio.testing

from blobfs.database import Database, Writer
from blobfs.env import Env
from blobfs.errors import BlobfsError, Damaged, NotFound, Unreachable
from blobfs.model.listing import Entry
from blobfs.stores.breaker import Breaker
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from blobfs.types import ListPage
from blobfs.volume import native, walks
from blobfs.volume.freshness import PAUSE_AFTER_FAILURE_S
from blobfs.volume.native import NativeTree, open_native

TTL_S = 60.0

T = TypeVar("T")


@pytest.fixture(autouse=True)
def _write_inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual time jumps whenever all tasks wait, so none may wait for a real thread."""

    async def write(self: Database, change: Callable[[Writer], T]) -> T:
        await trio.lowlevel.checkpoint()
        with self._env.begin(write=True) as txn:
            return change(Writer(txn, self._tables))

    monkeypatch.setattr(Database, "write", write)


def virtual_env() -> Env:
    """Wall clock and monotonic clock both follow trio's, so that tests can jump."""
    return Env(now_ns=lambda: 10**18 + int(trio.current_time() * 1e9))


async def bucket(*keys: str) -> FaultyStore:
    store = MemoryStore(env=virtual_env())
    for key in keys:
        await store.put(key, key.encode())
    return FaultyStore(store)


def opened(store: FaultyStore, path: Path) -> AbstractAsyncContextManager[NativeTree]:
    return open_native(Breaker(store, virtual_env()), path, ttl_s=TTL_S, env=virtual_env())


async def names(tree: NativeTree, prefix: str) -> list[bytes]:
    view = await tree.open_folder(prefix)
    try:
        found: list[bytes] = []
        number = 0
        while (page := await view.page(number)) is not None:
            found += [entry.name for entry in page]
            number += 1
        return found
    finally:
        view.close()


async def is_there(tree: NativeTree, prefix: str, name: bytes) -> bool:
    return (await tree.lookup(prefix, name)).entry is not None


@pytest.fixture
async def store() -> FaultyStore:
    return await bucket("a/1", "a/2", "b/1", "top")


@pytest.fixture
async def tree(store: FaultyStore, tmp_path: Path) -> AsyncIterator[NativeTree]:
    async with opened(store, tmp_path) as tree:
        yield tree


async def test_a_fresh_listing_answers_hits_and_misses_for_nothing(
    tree: NativeTree, store: FaultyStore, autojump_clock: trio.testing.MockClock
) -> None:
    """Compilers look for thousands of names that are not there; each would cost a request."""
    assert await names(tree, "a/") == [b"1", b"2"]
    before = store.calls.total()
    assert await is_there(tree, "a/", b"1")
    assert not await is_there(tree, "a/", b"3")
    assert await names(tree, "a/") == [b"1", b"2"]
    assert store.calls.total() == before


async def test_a_listing_survives_a_remount(
    store: FaultyStore, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """A remount that lists everything again is slow and costs money."""
    async with opened(store, tmp_path) as tree:
        assert await names(tree, "") == [b"a", b"b", b"top"]
    before = store.calls.total()
    async with opened(store, tmp_path) as tree:
        assert await names(tree, "") == [b"a", b"b", b"top"]
        assert await is_there(tree, "", b"top")
    assert store.calls.total() == before


async def test_after_its_time_to_live_a_listing_is_fetched_again(
    tree: NativeTree, store: FaultyStore, autojump_clock: trio.testing.MockClock
) -> None:
    """What other tools add and remove has to appear and disappear."""
    assert await names(tree, "a/") == [b"1", b"2"]
    await store.put("a/3", b"new")
    await store.delete_many(["a/1"])
    assert await names(tree, "a/") == [b"1", b"2"]
    await trio.sleep(TTL_S)
    assert await names(tree, "a/") == [b"2", b"3"]
    assert not await is_there(tree, "a/", b"1")


async def test_one_name_costs_one_round_trip_and_is_remembered(
    tree: NativeTree, store: FaultyStore, autojump_clock: trio.testing.MockClock
) -> None:
    """Opening one file in a directory of a million must not list the million."""
    store.slow("any", 1.0, times=None)
    started = trio.current_time()
    assert await is_there(tree, "a/", b"1")
    assert trio.current_time() - started == pytest.approx(1.0)
    assert store.calls["head"] == store.calls["list"] == 1
    assert await is_there(tree, "a/", b"1")
    assert not await is_there(tree, "a/", b"absent")
    assert not await is_there(tree, "a/", b"absent")
    assert store.calls["head"] == store.calls["list"] == 2


async def test_a_small_directory_is_known_from_the_look_at_its_name(tmp_path: Path) -> None:
    """A file deep down would cost a round trip for each directory above it."""
    store = await bucket("a/b/c/file", "a/b/note", "a/other")
    async with opened(store, tmp_path) as tree:
        assert await is_there(tree, "", b"a")
        before = store.calls.total()
        assert await is_there(tree, "a/", b"b")
        assert await is_there(tree, "a/", b"other")
        assert store.calls.total() == before
        assert not await is_there(tree, "a/", b"absent")  # which has to be asked for


async def test_of_a_large_directory_nothing_is_known_from_its_name(tmp_path: Path) -> None:
    """A name on the first page may be an object as well as a directory on the next."""
    store = await bucket(*[f"a/{number:03}" for number in range(100)])
    async with opened(store, tmp_path) as tree:
        assert await is_there(tree, "", b"a")
        before = store.calls.total()
        assert await is_there(tree, "a/", b"001")
        assert store.calls.total() > before


async def test_many_who_ask_for_one_name_cost_one_request(
    tree: NativeTree, store: FaultyStore, autojump_clock: trio.testing.MockClock
) -> None:
    """A parallel build asks for the same header from every process."""
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(is_there, tree, "a/", b"1")
    assert store.calls["head"] == 1


async def test_after_a_few_names_the_directory_is_listed(
    tree: NativeTree, store: FaultyStore, autojump_clock: trio.testing.MockClock
) -> None:
    """A program that goes on asking gets its answers from one listing."""
    for name in (b"1", b"x", b"y"):
        await tree.lookup("a/", name)
    await trio.testing.wait_all_tasks_blocked()
    before = store.calls.total()
    assert await is_there(tree, "a/", b"2")
    assert not await is_there(tree, "a/", b"z")
    assert store.calls.total() == before


async def test_a_large_directory_is_not_listed_for_lookups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """Three lookups among ten million objects must not cost ten thousand requests a minute."""
    monkeypatch.setattr(native, "PAGES_IN_BACKGROUND", 2)
    store = await bucket(*(f"d/{number:05}" for number in range(4500)))
    async with opened(store, tmp_path) as tree:
        for number in range(20):
            await tree.lookup("d/", b"%05d" % number)
            await trio.testing.wait_all_tasks_blocked()
        lists = store.calls["list"] - store.calls["head"]  # each lookup makes one of each
        assert lists == 2
        assert len(await names(tree, "d/")) == 4500


async def test_a_reader_keeps_a_background_listing_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """A reader that joins a listing begun for lookups gets all of it."""
    monkeypatch.setattr(native, "PAGES_IN_BACKGROUND", 2)
    store = await bucket(*(f"d/{number:05}" for number in range(4500)))
    async with opened(store, tmp_path) as tree:
        store.slow("list", 1.0, times=None)
        for number in range(3):
            await tree.lookup("d/", b"%05d" % number)
        assert len(await names(tree, "d/")) == 4500


async def test_entries_arrive_before_the_listing_is_complete(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """The first names of a large directory appear after one page, not after the last."""
    store = await bucket(*(f"{number:05}" for number in range(5000)))
    store.slow("list", 1.0, times=None)
    async with opened(store, tmp_path) as tree:
        started = trio.current_time()
        view = await tree.open_folder("")
        first = await view.page(0)
        assert first is not None
        assert first[0].name == b"00000"
        assert trio.current_time() - started == pytest.approx(1.0)
        assert len([name for n in range(1, 5) for name in (await view.page(n) or [])]) > 3900
        view.close()


async def test_a_first_listing_that_fails_is_an_error_never_a_short_directory(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """A program that saw half a directory would delete the other half of a mirror."""
    store = await bucket(*(f"{number:05}" for number in range(2500)))
    store.fail("list", Unreachable("gone"), nth=3)
    async with opened(store, tmp_path) as tree:
        with pytest.raises(Unreachable):
            await names(tree, "")
        assert len(await names(tree, "")) == 2500


async def test_a_refresh_that_fails_serves_the_old_listing_whole(
    tree: NativeTree, store: FaultyStore, autojump_clock: trio.testing.MockClock
) -> None:
    """An outage is not a deletion; and status says that what is shown is old."""
    assert await names(tree, "a/") == [b"1", b"2"]
    await trio.sleep(TTL_S + 1)
    store.fail("list", Unreachable("gone"), times=None)
    store.fail("head", Unreachable("gone"), times=None)
    assert await names(tree, "a/") == [b"1", b"2"]
    assert tree.statistics().stale == 1
    assert tree.statistics().last_error == "gone"
    assert await is_there(tree, "a/", b"1")
    with pytest.raises(Unreachable):
        await tree.lookup("a/", b"unknown")


async def test_stale_listings_recover_by_themselves(
    tree: NativeTree, store: FaultyStore, autojump_clock: trio.testing.MockClock
) -> None:
    """Nobody should have to remount after an outage."""
    await names(tree, "a/")
    await trio.sleep(TTL_S + 1)
    store.fail("list", Unreachable("gone"), times=1)
    await names(tree, "a/")
    await store.put("a/3", b"new")
    await trio.sleep(PAUSE_AFTER_FAILURE_S)
    assert await names(tree, "a/") == [b"1", b"2", b"3"]
    assert tree.statistics().stale == 0


async def test_a_dead_store_is_not_asked_again_at_every_step(
    tree: NativeTree, store: FaultyStore, autojump_clock: trio.testing.MockClock
) -> None:
    """Each question would wait for the deadline, and the mount would seem to hang."""
    await names(tree, "a/")
    await trio.sleep(TTL_S + 1)
    store.fail("list", Unreachable("gone"), times=None)
    await names(tree, "a/")
    before = store.calls["list"]
    for _ in range(5):
        assert await names(tree, "a/") == [b"1", b"2"]
    assert store.calls["list"] == before


async def test_a_bucket_that_is_gone_is_no_empty_directory(
    tree: NativeTree, store: FaultyStore, autojump_clock: trio.testing.MockClock
) -> None:
    """A deleted bucket, or a typo in a policy, must not look like an empty folder."""
    store.fail("list", NotFound("no such bucket"), times=None)
    with pytest.raises(Unreachable):
        await names(tree, "a/")
    with pytest.raises(Unreachable):
        await tree.lookup("a/", b"1")


@pytest.mark.parametrize("sorted_listing", [True, False])
async def test_a_walk_is_served_by_listings_of_the_tree(
    tmp_path: Path, sorted_listing: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """`du` over 200 folders costs a few requests, and finds every file."""
    keys = [f"d{folder:03}/s/f{number}" for folder in range(200) for number in range(10)]
    store = await bucket(*keys)
    store.traits = replace(store.traits, sorted_listing=sorted_listing)
    async with opened(store, tmp_path) as tree:
        found: list[str] = []

        async def walk(prefix: str) -> None:
            view = await tree.open_folder(prefix)
            entries = [entry for n in range(9) for entry in (await view.page(n) or [])]
            view.close()
            for entry in entries:
                path = prefix + entry.name.decode()
                if entry.is_folder:
                    await walk(path + "/")
                else:
                    found.append(path)

        await walk("")
        assert found == keys
        assert store.calls["list"] <= 8
        before = store.calls.total()
        found.clear()
        await walk("")
        assert found == keys
        assert store.calls.total() == before


async def test_a_walk_stops_when_nobody_follows(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """A program that looked at three folders must not cause a listing of the bucket."""
    store = await bucket(*(f"{n % 50:02}/{n:06}" for n in range(20_000)))
    async with opened(store, tmp_path) as tree:
        for folder in ("00/", "01/", "02/"):
            await names(tree, folder)
        await trio.sleep(120)
        assert store.calls["list"] <= 5


async def test_a_slow_reader_gets_its_directory_from_a_walk_whole(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """A reader that pauses for a minute in the middle still sees every name once."""
    store = await bucket(
        *(f"{folder}/x" for folder in "abc"), *(f"d/{number:05}" for number in range(9000))
    )
    async with opened(store, tmp_path) as tree:
        for folder in ("", "a/", "b/", "c/"):
            await names(tree, folder)
        view = await tree.open_folder("d/")
        found: list[bytes] = []
        number = 0
        while (page := await view.page(number)) is not None:
            found += [entry.name for entry in page]
            number += 1
            await trio.sleep(50)
        view.close()
        assert found == [b"%05d" % number for number in range(9000)]


async def test_odd_keys_are_counted_and_named(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """An object that no path can name must not vanish silently."""
    store = await bucket("a//b", "a//c", "a/./x", "ok", "n" * 300)
    async with opened(store, tmp_path) as tree:
        assert await names(tree, "") == [b"a", b"ok"]
        assert await names(tree, "a/") == []
        assert tree.statistics().odd_count == 3
        assert {odd.key for odd in tree.odd_keys(10)} == {"a//", "a/./", "n" * 300}
        await trio.sleep(TTL_S)
        await names(tree, "a/")
        assert tree.statistics().odd_count == 3


async def test_unfinished_and_replaced_listings_leave_nothing_behind(
    tree: NativeTree, store: FaultyStore, autojump_clock: trio.testing.MockClock
) -> None:
    """The state folder of a mount that runs all year must not grow."""
    for _ in range(5):
        await names(tree, "a/")
        await trio.sleep(TTL_S)
    await trio.testing.wait_all_tasks_blocked()
    with tree._listings._database.read() as reader:
        assert len(list(reader.range("names"))) == 2
        assert not list(reader.range("garbage"))


async def test_a_version_known_to_be_old_is_asked_for_again(
    tree: NativeTree, store: FaultyStore, autojump_clock: trio.testing.MockClock
) -> None:
    """After a read found another version, the next open must see the new one at once."""
    await names(tree, "a/")
    old = (await tree.lookup("a/", b"1")).entry
    await store.put("a/1", b"new content")
    tree.forget("a/", b"1")
    new = (await tree.lookup("a/", b"1")).entry
    assert old is not None
    assert new is not None
    assert (old.etag, old.size_bytes) != (new.etag, new.size_bytes)


async def test_a_listing_from_the_future_is_not_believed(
    store: FaultyStore, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """A clock that was set back must not freeze the directory for a year."""
    ahead = Env(now_ns=lambda: 2 * 10**18)
    async with open_native(Breaker(store, ahead), tmp_path, ttl_s=TTL_S, env=ahead) as tree:
        await names(tree, "a/")
    await store.put("a/3", b"new")
    async with opened(store, tmp_path) as tree:
        assert await names(tree, "a/") == [b"1", b"2", b"3"]


async def test_a_name_that_only_one_of_both_requests_finds(
    tree: NativeTree, store: FaultyStore, autojump_clock: trio.testing.MockClock
) -> None:
    """A directory has no object, and an object no directory: either is enough."""
    folder = (await tree.lookup("", b"a")).entry
    file = (await tree.lookup("", b"top")).entry
    assert folder is not None
    assert file is not None
    assert folder.is_folder
    assert not file.is_folder


@pytest.mark.parametrize("kind", ["head", "list"])
async def test_one_of_both_requests_failing_is_no_absence(
    tree: NativeTree,
    store: FaultyStore,
    kind: str,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Half an answer is no answer."""
    store.fail(kind, Unreachable("gone"))  # type: ignore[arg-type]
    with pytest.raises(BlobfsError, match="gone"):
        await tree.lookup("a/", b"1")


async def test_a_directory_above_a_deep_tree_does_not_wait_for_its_walk(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Its names are one request away; the walk would come to the last one much later, or never."""
    deep = [f"a/m/deep/{number:05}" for number in range(20_000)]
    store = await bucket("a/k/1", "a/l/1", "a/m/1", *deep, "a/m/z")
    async with opened(store, tmp_path) as tree:
        for folder in ("", "a/", "a/k/"):
            await names(tree, folder)
        with trio.fail_after(5):
            assert await names(tree, "a/m/") == [b"1", b"deep", b"z"]
        assert store.calls["list"] < 10


async def test_a_listing_given_up_in_the_middle_goes_on_without_a_gap(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Names that were shown are not shown again, and those that follow are not lost."""
    before = [f"a/m/b{number:04}" for number in range(1500)]
    deep = [f"a/m/deep/{number:05}" for number in range(5000)]
    behind = [f"a/m/e{number:04}" for number in range(1500)]
    store = await bucket("a/k/1", "a/l/1", *before, *deep, *behind)
    async with opened(store, tmp_path) as tree:
        for folder in ("", "a/", "a/k/"):
            await names(tree, folder)
        view = await tree.open_folder("a/m/")
        found = [entry.name for entry in await view.page(0) or []]
        assert 0 < len(found) < 1500
        await store.put("a/m/a", b"sorts before all that was shown")
        number = 1
        while (page := await view.page(number)) is not None:
            found += [entry.name for entry in page]
            number += 1
        again = [entry.name for n in range(number) for entry in await view.page(n) or []]
        view.close()
        wanted = [*before, "a/m/deep", *behind, "a/m/a"]
        assert sorted(found) == sorted(key[4:].encode() for key in wanted)
        assert again == found
        assert not any(tree._listings.is_read(run.listing) for run in view._given_up)


async def test_a_walk_that_hangs_holds_nobody_up(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Waiting first for the walk and then for a listing would be two deadlines."""
    store = await bucket("a/1", "b/1", "c/1", "d/1")
    async with opened(store, tmp_path) as tree:
        for folder in ("a/", "b/"):
            await names(tree, folder)
        store.hang("list", key="")
        await names(tree, "c/")
        started = trio.current_time()
        assert await names(tree, "d/") == [b"1"]
        assert trio.current_time() - started <= walks.PATIENCE_S


async def test_a_queue_for_one_name_waits_for_one_deadline(
    tree: NativeTree, store: FaultyStore, autojump_clock: trio.testing.MockClock
) -> None:
    """With a dead server the last of ten programs would otherwise hang for five minutes."""
    store.slow("any", 30.0, times=None)
    store.fail("any", Unreachable("gone"), times=None)

    async def ask() -> None:
        with pytest.raises(Unreachable):
            await tree.lookup("a/", b"1")

    with trio.fail_after(31):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(ask)


async def test_one_wait_for_a_dead_store_is_enough_for_all_that_is_known(
    tree: NativeTree, store: FaultyStore, autojump_clock: trio.testing.MockClock
) -> None:
    """`ls -lR` of what is known must not wait for a deadline at every name."""
    for folder in ("", "a/", "b/"):
        await names(tree, folder)
    await trio.sleep(TTL_S + 1)
    store.slow("any", 30.0, times=None)
    store.fail("any", Unreachable("gone"), times=None)
    started = trio.current_time()
    for _ in range(3):
        assert await names(tree, "") == [b"a", b"b", b"top"]
        assert await names(tree, "a/") == [b"1", b"2"]
        assert await is_there(tree, "a/", b"1")
        assert await is_there(tree, "b/", b"1")
    assert trio.current_time() - started <= 31
    assert tree.statistics().stale == 3
    store.heal()
    await trio.sleep(2 * PAUSE_AFTER_FAILURE_S)
    for folder in ("", "a/", "b/"):
        await names(tree, folder)
    assert tree.statistics().stale == 0


async def test_what_a_failed_walk_leaves_old_is_called_stale(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Status would otherwise say that all is well."""
    store = await bucket(
        *(f"d{folder}/{number:04}" for folder in range(6) for number in range(900))
    )
    async with opened(store, tmp_path) as tree:
        await names(tree, "d4/")
        await trio.sleep(TTL_S + 1)
        for folder in ("d0/", "d1/", "d2/"):
            await names(tree, folder)
        store.slow("list", 1.0, times=None)
        store.fail("list", Unreachable("gone"), nth=2, times=None)
        await names(tree, "d3/")
        assert "d4/" in tree._runs  # a part of it has come
        assert len(await names(tree, "d4/")) == 900
        assert tree.statistics().stale == 1


async def test_a_slow_answer_is_believed_from_when_it_was_asked_for(
    tree: NativeTree, store: FaultyStore, autojump_clock: trio.testing.MockClock
) -> None:
    """What is shown may be as old as the question, and never older than the time to live."""
    store.slow("any", 20.0, times=None)
    asked_s = trio.current_time()
    assert (await tree.lookup("a/", b"1")).valid_until_s <= asked_s + TTL_S
    await names(tree, "b/")
    await trio.sleep(TTL_S)
    asked_s = trio.current_time()
    view = await tree.open_folder("b/")
    view.close()
    assert view.valid_until_s <= asked_s + TTL_S


async def test_a_clock_that_is_set_back_makes_nothing_younger(
    store: FaultyStore, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """A listing would be believed for as much longer as the clock went back."""
    back_s = [0]
    env = Env(now_ns=lambda: 10**18 + int((trio.current_time() - back_s[0]) * 1e9))
    async with open_native(Breaker(store, env), tmp_path, ttl_s=TTL_S, env=env) as tree:
        await names(tree, "a/")
        await trio.sleep(TTL_S - 1)
        assert await is_there(tree, "a/", b"1")
        back_s[0] = 30
        await store.put("a/3", b"new")
        await trio.sleep(1)
        assert await names(tree, "a/") == [b"1", b"2", b"3"]


async def test_a_listing_from_before_an_outdated_read_is_not_believed(
    tree: NativeTree, store: FaultyStore, autojump_clock: trio.testing.MockClock
) -> None:
    """A listing under way at that moment may still show the old version."""
    store.slow("list", 1.0)
    old = await _entry_while(tree, store, lambda: tree.forget("a/", b"1"))
    new = (await tree.lookup("a/", b"1")).entry
    assert new is not None
    assert old.etag != new.etag


async def _entry_while(tree: NativeTree, store: FaultyStore, act: Callable[[], None]) -> Entry:
    """List `a/`, replace `a/1` and `act` when the page has left the store; return what it shows."""
    page = await store.inner.list("a/", delimiter=True)
    list_now = store.inner.list

    async def list_old(*args: object, **kwargs: object) -> ListPage:
        await store.inner.put("a/1", b"new content")
        act()
        return page

    store.inner.list = list_old  # type: ignore[method-assign]
    view = await tree.open_folder("a/")
    store.inner.list = list_now  # type: ignore[method-assign]
    entries = await view.page(0)
    view.close()
    assert entries is not None
    return entries[0]


async def test_a_damaged_database_does_not_end_the_mount(
    tree: NativeTree,
    store: FaultyStore,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """One listing fails; open files and other directories have nothing to do with it."""
    for name in (b"1", b"2"):
        await tree.lookup("a/", name)
    store.slow("list", 1.0, times=None)
    store.fail("list", Unreachable("gone"), nth=2)
    await tree.lookup("a/", b"3")

    def damaged(prefix: str) -> None:
        raise Damaged("database is damaged")

    monkeypatch.setattr(tree._listings, "folder", damaged)
    await trio.sleep(5)
    monkeypatch.undo()
    assert await names(tree, "b/") == [b"1"]


async def test_a_marker_at_the_end_of_a_page_keeps_its_time(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """A directory's time would change with the way in which it was listed."""
    store = await bucket("b/x", "c/x", "d/x", *(f"e/{number:03}" for number in range(998)))
    await store.put("m/", b"")
    await store.put("m/x", b"")
    await trio.sleep(100)  # otherwise it would be the time of the first mount
    async with opened(store, tmp_path) as tree:
        for folder in ("b/", "c/", "d/", "m/"):
            await names(tree, folder)
        assert store.calls["list"] == 5
        assert tree.folder_mtime_ns("m/") == (await store.head("m/")).mtime_ns


async def test_counts_of_lookups_are_bounded(
    tree: NativeTree, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """One file in each of a million directories must not fill the memory for ever."""
    monkeypatch.setattr(native, "MOST_COUNTED", 10)
    for number in range(50):
        await tree.lookup(f"{number}/", b"x")
    assert len(tree._asked) <= 10


async def test_the_way_to_a_known_directory_is_known_too(
    tree: NativeTree, store: FaultyStore, autojump_clock: trio.testing.MockClock
) -> None:
    """A program that opened `a/1` once must get there again, though nobody listed the root."""
    assert await is_there(tree, "", b"a")
    assert not await is_there(tree, "", b"absent")
    await names(tree, "a/")
    await trio.sleep(TTL_S + 1)
    store.fail("any", Unreachable("gone"), times=None)
    assert await is_there(tree, "", b"a")
    assert await names(tree, "a/") == [b"1", b"2"]
    with pytest.raises(Unreachable):
        await tree.lookup("", b"absent")


@pytest.mark.parametrize("damage", ["torn", "format"])
async def test_damaged_listings_are_begun_anew(
    store: FaultyStore, tmp_path: Path, damage: str, autojump_clock: trio.testing.MockClock
) -> None:
    """After a bad disk or an update, nobody should have to find and delete a file."""
    async with opened(store, tmp_path) as tree:
        await names(tree, "a/")
        if damage == "format":
            await tree._listings._database.write(lambda w: w.put("meta", b"format", b"99"))
    if damage == "torn":
        (tmp_path / "native.lmdb/data.mdb").write_bytes(b"torn" * 10_000)
    async with opened(store, tmp_path) as tree:
        assert tree.statistics().folders == 0
        assert await names(tree, "a/") == [b"1", b"2"]


async def test_a_look_at_the_root_answers_the_first_question(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """The first file that anybody opens would wait a round trip longer."""
    store = await bucket("one", "two/x")
    async with opened(store, tmp_path) as tree:
        tree.look_at_root()
        await trio.testing.wait_all_tasks_blocked()
        before = store.calls.total()
        assert await is_there(tree, "", b"one")
        assert await is_there(tree, "", b"two")
        assert store.calls.total() == before == 1


async def test_a_look_at_the_root_that_fails_is_no_answer(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """An outage at the mount would be an empty bucket (P5)."""
    store = await bucket("one")
    store.fail("list", Unreachable("down"))
    async with opened(store, tmp_path) as tree:
        tree.look_at_root()
        await trio.testing.wait_all_tasks_blocked()
        assert await is_there(tree, "", b"one")

"""Names come out of keys the same way however the keys were listed, and none is lost."""

import bisect

from hypothesis import given
from hypothesis import strategies as st

from blobfs.model.listing import (
    OBJECT_SUFFIX,
    Entry,
    FolderAssembler,
    OddKey,
    TreeAssembler,
    assemble_folder,
    sort_key,
)
from blobfs.types import ListPage, ObjectInfo

SUFFIX = OBJECT_SUFFIX.encode()

# Few letters, and those that sort around `/`, so that collisions are common.
segments = st.text(alphabet="ab-.0\U0001f600\uff61", min_size=0, max_size=3) | st.sampled_from(
    ["..", ".", ".blobfs", "a" + OBJECT_SUFFIX, "x\0y", "n" * 256, "é"]
)
keys = st.lists(st.lists(segments, min_size=1, max_size=4).map("/".join), unique=True).map(
    lambda found: sorted(filter(None, found), key=sort_key)
)


def info(key: str) -> ObjectInfo:
    return ObjectInfo(key, len(key) % 3, f"etag-{key}", 7)


def delimited_pages(all_keys: list[str], prefix: str, page_size: int) -> list[ListPage]:
    """What a store answers to a listing with delimiter, written down independently."""
    items: list[str] = []
    for key in all_keys:
        if key.startswith(prefix):
            rest = key[len(prefix) :]
            item = prefix + rest.split("/", 1)[0] + "/" if "/" in rest else key
            if item not in items:
                items.append(item)
    whole = set(all_keys)
    pages = []
    for start in range(0, max(len(items), 1), page_size):
        chunk = items[start : start + page_size]
        folders = [item for item in chunk if item.endswith("/") and item != prefix]
        objects = [info(item) for item in chunk if item not in folders and item in whole]
        more = "more" if start + page_size < len(items) else None
        pages.append(ListPage(tuple(objects), tuple(folders), more))
    return pages


def folder_by_delimiter(
    all_keys: list[str], prefix: str, page_size: int
) -> tuple[list[Entry], list[OddKey]]:
    assembler = FolderAssembler(prefix)
    entries: list[Entry] = []
    odd: list[OddKey] = []
    for page in delimited_pages(all_keys, prefix, page_size):
        part = assemble_folder(assembler, page, last=page.next_token is None)
        entries += part.entries
        odd += part.odd
    return entries, odd


def tree(
    all_keys: list[str], root: str, page_size: int, start_after: str = ""
) -> dict[str, tuple[list[Entry], list[OddKey]]]:
    assembler = TreeAssembler(root, start_after)
    wanted = [key for key in all_keys if key.startswith(root)]
    first = bisect.bisect_right([sort_key(key) for key in wanted], sort_key(start_after))
    wanted = wanted[first if start_after else 0 :]
    folders: dict[str, tuple[list[Entry], list[OddKey]]] = {}
    complete = set()
    for start in range(0, max(len(wanted), 1), page_size):
        page = wanted[start : start + page_size]
        last = start + page_size >= len(wanted)
        for part in assembler.feed(map(info, page), last=last):
            assert part.prefix not in complete
            entries, odd = folders.setdefault(part.prefix, ([], []))
            entries += part.entries
            odd += part.odd
            if part.complete:
                complete.add(part.prefix)
    return {prefix: folder for prefix, folder in folders.items() if prefix in complete}


@given(keys, st.integers(1, 5), st.integers(1, 5))
def test_both_listings_show_the_same(all_keys: list[str], pages_a: int, pages_b: int) -> None:
    """A file that only one kind of listing shows would come and go by itself."""
    for prefix, found in tree(all_keys, "", pages_a).items():
        assert found == folder_by_delimiter(all_keys, prefix, pages_b)


def test_a_directory_keeps_a_name_that_a_substitute_would_take() -> None:
    """Two entries of one name: `rm -r` of one would meet the other."""
    entries, odd = tree(["a", "a.blobfs-object/x", "a/y"], "", 9)[""]
    assert [(entry.name, entry.is_folder) for entry in entries] == [
        (b"a.blobfs-object", True),
        (b"a", True),
    ]
    assert [found.key for found in odd] == ["a"]


@given(keys, st.integers(1, 5))
def test_names_are_unique_and_every_key_is_accounted_for(
    all_keys: list[str], page_size: int
) -> None:
    """Every object is a file, or below a hidden name, or counted as odd; none twice."""
    folders = tree(all_keys, "", page_size)
    shown: set[str] = set()
    odd: list[str] = []
    for prefix, (entries, odd_keys) in folders.items():
        names = [entry.name for entry in entries]
        assert len(set(names)) == len(names)
        odd += [found.key for found in odd_keys]
        for entry in entries:
            key = entry.key or prefix + entry.name.decode()
            if entry.is_folder:
                assert key + "/" in folders
            else:
                assert entry.etag == f"etag-{key}"
                shown.add(key)
    assert len(set(odd)) == len(odd)
    for key in all_keys:
        hidden = ".blobfs" in key.split("/")
        marker = key.endswith("/") and key in folders
        closed = [one for one in odd if one.endswith("/") and one not in folders]
        below_odd = key in odd or any(map(key.startswith, closed))
        assert (key in shown) + hidden + marker + below_odd >= 1, key
        assert not (key in shown and below_odd), key


@given(keys, st.integers(0, 10), st.integers(1, 5))
def test_a_walk_from_the_middle_shows_only_whole_directories(
    all_keys: list[str], position: int, page_size: int
) -> None:
    """Half a directory taken for a whole one would hide files for a minute."""
    if not all_keys:
        return
    start_after = all_keys[position % len(all_keys)]
    for prefix, found in tree(all_keys, "", page_size, start_after).items():
        assert found == folder_by_delimiter(all_keys, prefix, 3)


def test_what_is_object_and_directory_keeps_both() -> None:
    """The directory has the name; the object stays readable beside it."""
    entries, odd = folder_by_delimiter(["a", "a-1", "a/x"], "", 1)
    assert entries == [
        Entry(b"a-1", False, 0, "etag-a-1", 7),
        Entry(b"a" + SUFFIX, False, 1, "etag-a", 7, "a"),
        Entry(b"a", True),
    ]
    assert not odd


def test_a_taken_substitute_name_makes_the_object_odd() -> None:
    """Nothing is overwritten by a name that we made up."""
    entries, odd = folder_by_delimiter(["a", "a" + OBJECT_SUFFIX, "a/x"], "", 10)
    assert [entry.name for entry in entries] == [b"a" + SUFFIX, b"a"]
    assert [found.key for found in odd] == ["a"]


def test_a_marker_gives_the_directory_its_time_and_its_content_is_not_lost() -> None:
    """Consoles make folders this way, and some tools put content into them."""
    assembler = FolderAssembler("d/")
    page = ListPage((ObjectInfo("d/", 5, "e", 42), ObjectInfo("d/x", 1, "e", 1)), (), None)
    part = assemble_folder(assembler, page, last=True)
    assert part.mtime_ns == 42
    assert [entry.name for entry in part.entries] == [b"x"]
    assert part.odd == [OddKey("d/", "a trailing slash with content")]

"""Keep listings of directories in LMDB, so that they outlive the daemon.

Tables:

    folders     sha256(prefix)[:16]         -> Folder: which listing is the current one
    pages       listing id, page number     -> list of Entry, in the order of the store
    names       listing id, name            -> Entry
    odd         listing id, number          -> OddKey
    garbage     listing id                  -> nothing: unfinished, or replaced
    meta        b"format"                   -> version of these tables
                b"next" / b"totals"         -> the next listing id / Totals
                b"born"                     -> when this bucket was first seen here, in ns

A listing is written page by page under a new id, and becomes the current one of its
directory in the transaction that makes it complete. Until then, and after it was
replaced, its id is in `garbage`, from where it is removed in small steps. So a
directory is never seen half refreshed, and a kill leaves nothing behind but garbage.

Concurrency: methods that are not async may be called at any moment and see one moment.
"""

import contextlib
import hashlib
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from blobfs.database import Database, Reader, Sync, Writer, open_database, open_or_begin_anew
from blobfs.errors import Damaged
from blobfs.model.listing import Entry, OddKey, Part
from blobfs.types import GIB

TABLES = ("folders", "pages", "names", "odd", "garbage", "meta")

FORMAT = b"1"
MAP_BYTES = 256 * GIB

ROWS_OF_GARBAGE_AT_ONCE = 4000
"""Rows removed in one transaction: a few ms, so that other writers hardly wait."""


class Folder(msgspec.Struct, frozen=True, array_like=True):
    """What is known of one directory. Times in ns of the wall clock."""

    prefix: str
    listing: int
    listed_at_ns: int
    pages: int
    entries: int
    size_bytes: int
    odd: int
    mtime_ns: int | None


class Totals(msgspec.Struct, frozen=True, array_like=True):
    """Sums over all current listings."""

    folders: int = 0
    entries: int = 0
    size_bytes: int = 0
    odd: int = 0

    def changed(self, folder: Folder, sign: int) -> "Totals":
        return Totals(
            self.folders + sign,
            self.entries + sign * folder.entries,
            self.size_bytes + sign * folder.size_bytes,
            self.odd + sign * folder.odd,
        )


@dataclass(frozen=True, slots=True)
class Addition:
    """One page on its way into a listing; `finished` makes that listing the current one."""

    listing: int
    number: int
    part: Part
    odd_before: int
    finished: Folder | None


_encode = msgspec.msgpack.Encoder().encode
_folder = msgspec.msgpack.Decoder(Folder).decode
_totals = msgspec.msgpack.Decoder(Totals).decode
_entry = msgspec.msgpack.Decoder(Entry).decode
_entries = msgspec.msgpack.Decoder(list[Entry]).decode
_odd_key = msgspec.msgpack.Decoder(OddKey).decode


def _id(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _folder_key(prefix: str) -> bytes:
    return hashlib.sha256(prefix.encode("utf-8", "surrogateescape")).digest()[:16]


class Listings:
    """The tables above, and who is reading which listing right now."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._readers: Counter[int] = Counter()
        with database.read() as reader:
            row = reader.get("meta", b"next")
        self._next = 1 if row is None else int.from_bytes(row, "big")

    @property
    def upcoming(self) -> int:
        """The id that the next listing will have: those begun before have lower ones."""
        return self._next

    async def born_ns(self, now_ns: int) -> int:
        """Return when this bucket was first seen here, which is now if it never was."""
        with self._database.read() as reader:
            row = reader.get("meta", b"born")
        if row is None:
            row = now_ns.to_bytes(8, "big")
            await self._database.write(partial(_set_born, born=row))
        return int.from_bytes(row, "big")

    def folder(self, prefix: str) -> Folder | None:
        """Return what is known of the directory, however old."""
        with self._database.read() as reader:
            row = reader.get("folders", _folder_key(prefix))
        return None if row is None else _folder(row)

    def entry(self, listing: int, name: bytes) -> Entry | None:
        """Return the entry of that name, or None: that listing does not have it."""
        with self._database.read() as reader:
            row = reader.get("names", _id(listing) + name)
        return None if row is None else _entry(row)

    def page(self, listing: int, number: int) -> list[Entry]:
        """Return one page, in the order of the store; the caller holds the listing.

        Raises:
            Damaged: the page is not there. Never a short directory.
        """
        with self._database.read() as reader:
            row = reader.get("pages", _id(listing) + number.to_bytes(4, "big"))
        if row is None:
            raise Damaged(f"a page of a listing is missing. listing={listing} page={number}")
        return _entries(row)

    def following(self, listing: int, name: bytes, count: int) -> list[Entry]:
        """Return up to `count` entries behind `name`, in the order of their names."""
        with self._database.read() as reader:
            found = _names(reader, listing, name + b"\0")
            return [_entry(row) for row, _ in zip(found, range(count), strict=False)]

    def first_file(self, listing: int) -> Entry | None:
        """Return the file whose name sorts first, if it is among the first few entries."""
        with self._database.read() as reader:
            for row, _ in zip(_names(reader, listing, b""), range(16), strict=False):
                if not (entry := _entry(row)).is_folder:
                    return entry
        return None

    def totals(self) -> Totals:
        """Return the sums over all current listings."""
        with self._database.read() as reader:
            return _read_totals(reader)

    def odd_keys(self, at_most: int) -> list[OddKey]:
        """Return some of the keys that no path can name."""
        with self._database.read() as reader:
            garbage = {key for key, _ in reader.range("garbage")}
            current = (row for key, row in reader.range("odd") if key[:8] not in garbage)
            return [_odd_key(row) for row, _ in zip(current, range(at_most), strict=False)]

    def begin(self) -> int:
        """Return the id of a new listing, held for the caller."""
        listing = self._next
        self._next += 1
        self.hold(listing)
        return listing

    async def add(self, additions: Sequence[Addition]) -> None:
        """Write pages, and finish the listings whose last page is among them."""
        await self._database.write(lambda writer: _add(writer, additions))

    def hold(self, listing: int) -> None:
        """Keep a listing from being removed while somebody reads it."""
        self._readers[listing] += 1

    def release(self, listing: int) -> None:
        """Undo one `hold`."""
        self._readers[listing] -= 1
        if not self._readers[listing]:
            del self._readers[listing]

    def is_read(self, listing: int) -> bool:
        """Whether anybody but its writer holds the listing."""
        return self._readers[listing] > 1

    async def remove_garbage(self) -> bool:
        """Remove some rows of listings that nobody reads; return whether more is left."""
        # Chosen here, not on the writer thread: what is garbage and held by nobody at one
        # moment cannot be found by anybody later, whatever is committed in between.
        with self._database.read() as reader:
            garbage = [key for key, _ in reader.range("garbage")]
        idle = [key for key in garbage if int.from_bytes(key, "big") not in self._readers]
        if not idle:
            return False
        return await self._database.write(partial(_remove_garbage, listings=idle))


def open_listings(path: Path) -> contextlib.AbstractAsyncContextManager[Listings]:
    """Open the listings kept in `path`; damaged ones are begun anew: the store has them all.

    Raises:
        LocalFault: the folder cannot be used.
    """
    return open_or_begin_anew(
        partial(_open_kept, path), partial(shutil.rmtree, path), f"what is listed in {str(path)!r}"
    )


@contextlib.asynccontextmanager
async def _open_kept(path: Path) -> AsyncIterator[Listings]:
    """Open the listings as they are.

    Raises:
        Damaged: they do not hold together, or are of another format.
    """
    async with open_database(path, tables=TABLES, map_bytes=MAP_BYTES, sync=Sync.FULL) as database:
        await database.write(_stamp)
        yield Listings(database)


def _stamp(writer: Writer) -> None:
    found = writer.get("meta", b"format")
    if found is None:
        writer.put("meta", b"format", FORMAT)
    elif found != FORMAT:
        raise Damaged(f"listings have another format. expected={FORMAT!r} found={found!r}")


def _set_born(writer: Writer, born: bytes) -> None:
    writer.put("meta", b"born", born)


def _names(reader: Reader, listing: int, start: bytes) -> Iterator[bytes]:
    rows = reader.range("names", _id(listing) + start, _id(listing + 1))
    return (row for _, row in rows)


def _read_totals(reader: Reader) -> Totals:
    row = reader.get("meta", b"totals")
    return Totals() if row is None else _totals(row)


def _add(writer: Writer, additions: Sequence[Addition]) -> None:
    for addition in additions:
        _add_page(writer, addition)
        if addition.finished is not None:
            _finish(writer, addition.finished)
    used = max(addition.listing for addition in additions)
    if (row := writer.get("meta", b"next")) is None or int.from_bytes(row, "big") <= used:
        writer.put("meta", b"next", _id(used + 1))


def _add_page(writer: Writer, addition: Addition) -> None:
    own, part = _id(addition.listing), addition.part
    if addition.number == 0:
        writer.put("garbage", own, b"")
    writer.put("pages", own + addition.number.to_bytes(4, "big"), _encode(part.entries))
    for entry in part.entries:
        writer.put("names", own + entry.name, _encode(entry))
    for count, odd in enumerate(part.odd, addition.odd_before):
        writer.put("odd", own + count.to_bytes(4, "big"), _encode(odd))


def _finish(writer: Writer, folder: Folder) -> None:
    key = _folder_key(folder.prefix)
    totals = _read_totals(writer)
    if (row := writer.get("folders", key)) is not None:
        replaced = _folder(row)
        totals = totals.changed(replaced, -1)
        writer.put("garbage", _id(replaced.listing), b"")
    writer.put("meta", b"totals", _encode(totals.changed(folder, 1)))
    writer.put("folders", key, _encode(folder))
    writer.delete("garbage", _id(folder.listing))


def _remove_garbage(writer: Writer, listings: Sequence[bytes]) -> bool:
    """Remove at most `ROWS_OF_GARBAGE_AT_ONCE` rows of `listings`; return whether more is left."""
    room = ROWS_OF_GARBAGE_AT_ONCE
    for key in listings:
        behind = _id(int.from_bytes(key, "big") + 1)
        for table in ("names", "pages", "odd"):
            room -= writer.delete_range(table, key, behind, at_most=room)
            if not room:
                return True
        writer.delete("garbage", key)
    return False

"""Put entries into the slots of a bucket, and see whether each that lands is one that may."""

from tests.protocol.history import History
from tests.protocol.values import ORIGIN, Bucket, Entry


def put(history: History, bucket: Bucket, hash: bytes) -> tuple[Bucket, bool, str]:
    """Put an entry into its slot if that is empty.

    Return the bucket, whether it was stored, and what is wrong with that.
    """
    entry = history.entry(hash)
    if bucket.slot(entry.seq) != ORIGIN:
        return bucket, False, ""
    after = bucket.with_slot(entry.seq, hash)
    if entry.seq <= bucket.floor:
        return after, True, ""  # a stale one, that nobody may take for an entry
    if entry.seq != len(bucket.canon) + 1:
        return after, True, f"an entry went into a hole of the log, slot {entry.seq}"
    after = after._replace(canon=(*bucket.canon, hash))
    return after, True, _what_is_wrong(history, bucket, entry)


def _what_is_wrong(history: History, bucket: Bucket, entry: Entry) -> str:
    """Say why an entry is void, or should not be there, as the next of those that count."""
    tip = bucket.canon[-1] if bucket.canon else ORIGIN
    if entry.previous != tip:
        return "an entry landed that does not follow the one before: it is void for everybody"
    if not entry.changes:
        return "an entry landed that says nothing"
    before = history.replayed(tip)
    if bucket.packs is not None and not bucket.packs.issuperset(entry.ops):
        return "an entry landed that names a pack which is not there (P3)"
    shared = before.tree.shared
    for change in entry.changes:
        if change.is_shared and change.replaces != shared:
            return "an entry landed whose rows are resolved against an older tree: it is void"
        if change.number in before.numbers:
            return f"two files have the inode number {change.number} (M1)"
        if (change.op, entry.machine) in before.ops:
            return f"operation {change.op} was applied twice"
        if change.is_conflict and machine_of(change.op) == machine_of(shared):
            return f"operation {change.op} became a conflict with its own author"
        shared = change.op if change.is_shared else shared
    return ""


def machine_of(op: str) -> str:
    """Return where an operation was done."""
    return op.rstrip("0123456789~")

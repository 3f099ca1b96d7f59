"""Choose small worlds, each just large enough for one kind of trouble, and explore them."""

from dataclasses import dataclass

from tests.protocol.flow import Protocol
from tests.protocol.history import History
from tests.protocol.rules import Without
from tests.protocol.search import Report, Search
from tests.protocol.surroundings import following
from tests.protocol.values import ORIGIN, At, Bucket, Change, Client, Entry, Left, World


@dataclass(frozen=True)
class Setting:
    """A world as it begins."""

    name: str
    clients: tuple[Client, ...]
    left: Left
    landed: int = 0
    """Entries that lie in the log from the beginning, of a client who is gone."""
    cut: int = 0
    """How many of them stand in a checkpoint alone."""
    batch: int = 2
    with_packs: bool = False
    has_lost_tip: bool = False

    def explore(self, without: Without = Without.NOTHING, most_states: int = 400_000) -> Report:
        """Visit all that can happen when clients keep all rules but one."""
        history = History()
        rules = self.protocol(history, without)
        begin = self.begin(history)
        return Search(begin, lambda world: following(rules, world), most_states=most_states).run()

    def protocol(self, history: History, without: Without = Without.NOTHING) -> Protocol:
        """Return the rules that clients keep in this world: all but one."""
        return Protocol(
            history,
            without,
            self.batch,
            self.with_packs,
            self.left.copies > 0,
            self.has_lost_tip,
        )

    def begin(self, history: History) -> World:
        """Return the world before anything has happened."""
        return World(self._bucket(history), self._clients(history), self.left)

    def _bucket(self, history: History) -> Bucket:
        entries: tuple[bytes, ...] = ()
        for seq in range(1, self.landed + 1):
            previous = entries[-1] if entries else ORIGIN
            change = Change(f"Z{seq}", ("Z:0", seq), is_shared=False)
            entry = Entry(seq, previous, "Z:0", seq, (change,), "Z")
            entries = (*entries, history.note(entry))
        packs = frozenset[str]() if self.with_packs else None
        slots = (ORIGIN,) * self.cut + entries[self.cut :]
        return Bucket(True, True, self.cut, self.cut, slots, packs, (), entries)

    def _clients(self, history: History) -> tuple[Client, ...]:
        bucket = self._bucket(history)
        return tuple(
            client
            if client.at is At.MOUNT
            else client._replace(
                seq=len(bucket.canon),
                chain=bucket.canon[-1] if bucket.canon else ORIGIN,
                tree=history.replayed(bucket.canon[-1] if bucket.canon else ORIGIN).tree,
            )
            for client in self.clients
        )


def writer(machine: str, *, writes: int = 1, sharing: bool = False, at: At = At.IDLE) -> Client:
    """Return a client on which programs will write, who has replayed what there is."""
    return reader(machine, looks=0, at=at)._replace(writes=writes, is_sharing=sharing)


def reader(machine: str, *, looks: int, at: At = At.IDLE) -> Client:
    """Return a client with nothing unsaved, who has replayed what there is."""
    known = at is not At.MOUNT
    return Client(
        machine, f"{machine}:0", looks=looks, at=at, is_confirmed=known, is_searched=known
    )


SHARED = Setting(
    "two write the same file",
    (writer("A", writes=2, sharing=True), writer("B", sharing=True)),
    Left(crashes=1, late=1),
)
FAILURES = Setting(
    "requests fail, and a tree is lost",
    (writer("A", writes=2), writer("B")),
    Left(failures=1, rebuilds=1),
)
CUT = Setting(
    "two write, the log is cut",
    (writer("A"), writer("B")),
    Left(crashes=1, late=1, checkpoints=1, sleeps=1),
)
READ_AND_CUT = Setting(
    "two write, one reads, the log is cut",
    (writer("A"), writer("B"), reader("R", looks=1)),
    Left(checkpoints=1, sleeps=1),
)
READ_LATE_AND_CUT = Setting(
    "one writes late, one reads, the log is cut",
    (writer("A", writes=2), reader("R", looks=2)),
    Left(late=1, checkpoints=1, sleeps=1),
)
CUT_TWICE = Setting(
    "the log is cut twice",
    (writer("A", writes=2), reader("R", looks=1)),
    Left(failures=1, checkpoints=2, sleeps=2),
)
COPIED = Setting(
    "a state folder is copied",
    (writer("A"),),
    Left(crashes=1, late=1, copies=1),
)
COPIED_BESIDE = Setting(
    "a state folder is copied, and another writes",
    (writer("A"), writer("B")),
    Left(copies=1),
)
COPIED_AND_CUT = Setting(
    "a state folder is copied, the log is cut",
    (writer("A"),),
    Left(late=1, copies=1, checkpoints=1, sleeps=1),
)
PACKS = Setting(
    "packs",
    (writer("A", writes=2),),
    Left(crashes=1, late=2),
    with_packs=True,
)
LOSSES = Setting(
    "somebody removes objects",
    (reader("R", looks=1, at=At.MOUNT), writer("A", at=At.MOUNT)),
    Left(losses=1, failures=1, crashes=1),
    landed=2,
)
LOSSES_AFTER_CUT = Setting(
    "somebody removes objects, the log was cut",
    (reader("R", looks=1, at=At.MOUNT), writer("A", at=At.MOUNT)),
    Left(losses=1, failures=1, crashes=1),
    landed=2,
    cut=2,
)
LOST_TIP = Setting(
    "the last entry is lost",
    (reader("R", looks=2), writer("A", writes=2, at=At.MOUNT)),
    Left(losses=1),
    landed=2,
    has_lost_tip=True,
)

SETTINGS = (
    SHARED,
    FAILURES,
    CUT,
    READ_AND_CUT,
    READ_LATE_AND_CUT,
    CUT_TWICE,
    COPIED,
    COPIED_BESIDE,
    COPIED_AND_CUT,
    PACKS,
    LOSSES,
    LOSSES_AFTER_CUT,
    LOST_TIP,
)

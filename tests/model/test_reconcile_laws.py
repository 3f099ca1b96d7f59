"""Whatever clients do and in whatever order they commit: these laws hold.

Hypothesis makes lists of operations for two to four clients, with commits among them that leave out
what waits, and with deliveries that are late or come twice. Each write brings bytes that no other
has, so that what became of it can be seen.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blobfs.errors import BlobfsError
from blobfs.formats.rows import Kind
from blobfs.model.tree_rules_rename import EXCHANGE
from blobfs.types import InodeNo
from tests.model.replicas import Replica, Volume

EXAMPLES = int(os.environ.get("BLOBFS_MODEL_EXAMPLES", "150"))
"""Of each law: more of them for soaking."""

NAMES = ("a", "b", "c.txt")

Step = tuple[str, int, int, int]
"""What is done, and which of the paths that are there, and under which name."""

ACTIONS = (
    "mkdir",
    "make",
    "write",
    "append",
    "same",
    "rename",
    "exchange",
    "link",
    "unlink",
    "rmdir",
    "remove",
    "save",
    "backup",
    "chmod",
    "xattr",
    "symlink",
    "open",
    "close",
)


@dataclass
class User:
    """Does operations by number on one client, and notes what it removes knowingly."""

    client: Replica
    top: str = ""
    """Where it works."""
    tokens: Iterator[bytes] = field(default_factory=lambda: _tokens("t"))
    written: set[bytes] = field(default_factory=set)
    removed: set[bytes] = field(default_factory=set)

    def do(self, step: Step) -> None:
        """Do one step; what the rules refuse does nothing."""
        action, one, other, name = step
        try:
            getattr(self, f"_{action}")(one, other, NAMES[name % len(NAMES)])
        except BlobfsError:
            return

    def _mkdir(self, one: int, other: int, name: str) -> None:
        self.client.mkdir(self._new(one, name))

    def _make(self, one: int, other: int, name: str) -> None:
        if (path := self._new(one, name)) not in self._paths():
            self._fill(path)

    def _write(self, one: int, other: int, name: str) -> None:
        if (path := self._file(one)) is not None:
            self._fill(path)

    def _append(self, one: int, other: int, name: str) -> None:
        if (path := self._file(one)) is not None:
            self.client.append(self.client.find(path), self._token())

    def _same(self, one: int, other: int, name: str) -> None:
        """Write what others write, too."""
        path = self._new(one, name)
        if path in self._paths() and self._kind(path) is not Kind.FILE:
            return
        if path in self._paths():
            self._note_lost(path)
        self.client.write(path, b"=")

    def _rename(self, one: int, other: int, name: str) -> None:
        if (old := self._any(one)) is not None:
            self._replace(old, self._new(other, name))

    def _exchange(self, one: int, other: int, name: str) -> None:
        old, new = self._any(one), self._any(other)
        if old is not None and new is not None:
            self.client.rename(old, new, EXCHANGE)

    def _link(self, one: int, other: int, name: str) -> None:
        if (path := self._file(one)) is not None:
            self.client.link(path, self._new(other, name))

    def _unlink(self, one: int, other: int, name: str) -> None:
        if (path := self._file(one)) is not None:
            self._remove_file(path)

    def _rmdir(self, one: int, other: int, name: str) -> None:
        if (path := self._folder(one)) != self.top:
            self.client.rmdir(path)

    def _remove(self, one: int, other: int, name: str) -> None:
        """Remove a directory with all that lies in it."""
        top = self._folder(one)
        for path in reversed([path for path in self._paths() if path.startswith(f"{top}/")]):
            if self._kind(path) is Kind.FOLDER:
                self.client.rmdir(path)
            else:
                self._remove_file(path)
        self._rmdir(one, other, name)

    def _save(self, one: int, other: int, name: str) -> None:
        if (path := self._file(one)) is not None:
            self._fill(f"{path}.tmp")
            self._replace(f"{path}.tmp", path)

    def _backup(self, one: int, other: int, name: str) -> None:
        if (path := self._file(one)) is not None:
            self._replace(path, f"{path}~")
            self._fill(path)

    def _chmod(self, one: int, other: int, name: str) -> None:
        if (path := self._any(one)) is not None:
            self.client.chmod(path, 0o600 + other % 64)

    def _xattr(self, one: int, other: int, name: str) -> None:
        if (path := self._any(one)) is not None:
            self.client.setxattr(path, b"user." + name.encode(), b"%d" % other)

    def _symlink(self, one: int, other: int, name: str) -> None:
        self.client.symlink(self._new(one, name), b"%d" % (other % 2))

    def _open(self, one: int, other: int, name: str) -> None:
        if (path := self._file(one)) is not None:
            self.client.open(path)

    def _close(self, one: int, other: int, name: str) -> None:
        self.client.close()

    # -- how it is done ----------------------------------------------------------------

    def _fill(self, path: str) -> None:
        if path in self._paths():
            self._note_lost(path)
        self.client.write(path, self._token())

    def _replace(self, old: str, new: str) -> None:
        """Rename, and note what goes by it."""
        paths = self._paths()
        lost = self._last_content(new) if new in paths and paths[old] != paths[new] else set()
        self.client.rename(old, new)
        self.removed |= lost

    def _remove_file(self, path: str) -> None:
        self.removed |= self._last_content(path)
        self.client.unlink(path)

    def _last_content(self, path: str) -> set[bytes]:
        """Return what a file holds, if this is its last name."""
        row = self.client.at(path)
        return self._tokens_in(path) if row.nlink == 1 else set()

    def _note_lost(self, path: str) -> None:
        self.removed |= self._tokens_in(path)

    def _tokens_in(self, path: str) -> set[bytes]:
        if self._kind(path) is not Kind.FILE:
            return set()
        return split(self.client.content(self.client.find(path)))

    def _token(self) -> bytes:
        token = next(self.tokens)
        self.written.add(token)
        return token

    def _kind(self, path: str) -> Kind:
        return self.client.at(path).kind

    def _paths(self) -> dict[str, InodeNo]:
        paths = self.client.paths()
        return {path: paths[path] for path in sorted(paths) if path.startswith(self.top)}

    def _pick(self, number: int, kinds: Callable[[Kind], bool]) -> str | None:
        found = [path for path in self._paths() if path != self.top and kinds(self._kind(path))]
        return found[number % len(found)] if found else None

    def _any(self, number: int) -> str | None:
        return self._pick(number, lambda kind: True)

    def _file(self, number: int) -> str | None:
        return self._pick(number, lambda kind: kind is Kind.FILE)

    def _folder(self, number: int) -> str:
        found = [path for path in self._paths() if self._kind(path) is Kind.FOLDER]
        found = sorted({self.top, *found})
        return found[number % len(found)]

    def _new(self, number: int, name: str) -> str:
        return f"{self._folder(number)}/{name}".lstrip("/")


def _tokens(prefix: str) -> Iterator[bytes]:
    number = 0
    while True:
        number += 1
        yield f"<{prefix}{number}>".encode()


def split(content: bytes) -> set[bytes]:
    """Return the tokens in a content."""
    return set(re.findall(rb"<\w+>", content))


small = st.integers(0, 11)
steps = st.tuples(st.sampled_from(ACTIONS), small, small, small)
doing = st.tuples(st.just("do"), st.integers(0, 3), steps)
at_once = st.integers(1, 4)
committing = st.tuples(st.just("commit"), st.integers(0, 3), st.tuples(st.booleans(), at_once))
delivering = st.tuples(st.just("deliver"), st.integers(0, 3), st.tuples(small, at_once))
stories = st.lists(st.one_of(*[doing] * 8, committing, delivering), min_size=15, max_size=60)
beginnings = st.lists(steps, min_size=6, max_size=20)
"""Hypothesis makes lists of about twice the least length, if it may."""

laws = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def play(volume: Volume, users: list[User], story: list[tuple]) -> None:  # type: ignore[type-arg]
    """Do what a story says."""
    for what, who, how in story:
        user = users[who % len(users)]
        if what == "do":
            user.do(how)
        elif what == "deliver":
            volume.deliver(user.client, *how)
        else:
            waits, at_once = how
            waiting = frozenset(user.client.held) if waits else frozenset()
            volume.commit(user.client, waiting, at_once)


def require_settled(volume: Volume) -> dict[str, bytes | None]:
    """Let everything be committed, and return what everybody sees then."""
    for _ in volume.clients:
        volume.settle()
    first = volume.clients[0]
    for client in volume.clients:
        assert client.base == first.base
        assert not client.inodes, "something is unsaved for ever"
        assert not client.names, "a name is unsaved for ever"
        assert not client.written
        assert client.shown() == first.shown()
    return first.shown()


def begin(volume: Volume, user: User, beginning: list[Step]) -> None:
    """Let all clients know a tree that one of them made."""
    for step in beginning:
        user.do(step)
    user.client.close()
    volume.commit(user.client)
    for client in volume.clients:
        volume.deliver(client)


@given(st.integers(2, 4), beginnings, stories)
@laws
def test_no_content_is_lost_and_all_see_the_same(
    clients: int,
    beginning: list[Step],
    story: list,  # type: ignore[type-arg]
) -> None:
    """Somebody's work would be gone, or two machines would show different trees for ever."""
    volume = Volume(clients)
    tokens = _tokens("t")
    users = [User(client, tokens=tokens) for client in volume.clients]
    begin(volume, users[0], beginning)
    play(volume, users, story)
    shown = require_settled(volume)
    there = {token for data in shown.values() if data is not None for token in split(data)}
    written = {token for user in users for token in user.written}
    removed = {token for user in users for token in user.removed}
    assert written - removed <= there


@given(st.integers(2, 4), stories)
@laws
def test_who_works_alone_has_no_conflicts(clients: int, story: list) -> None:  # type: ignore[type-arg]
    """Copies and warnings would come of nothing, and be ignored when they matter."""
    volume = Volume(clients)
    users = [User(client, f"top{number}") for number, client in enumerate(volume.clients)]
    for user in users:
        user.client.mkdir(user.top)
    play(volume, users, story)
    expected = {
        path: data
        for user in users
        for path, data in user.client.shown().items()
        if path.startswith(user.top)
    }
    assert require_settled(volume) == expected
    assert not [client.conflicts for client in volume.clients if client.conflicts]


@given(beginnings, st.lists(steps, min_size=5, max_size=15), st.integers(2, 4))
@laws
def test_who_does_the_same_has_no_conflicts(
    beginning: list[Step], after: list[Step], clients: int
) -> None:
    """The same archive unpacked on two machines would leave two of each file."""
    volume = Volume(clients)
    begin(volume, User(volume.clients[0], tokens=_tokens("before")), beginning)
    for client in volume.clients:
        user = User(client, tokens=_tokens("after"))
        for step in after:
            user.do(step)
    expected = volume.clients[0].shown()
    assert require_settled(volume) == expected
    assert not [client.conflicts for client in volume.clients if client.conflicts]


def test_a_story_is_played() -> None:
    """The laws would hold for clients that do nothing."""
    user = User(Volume(1).clients[0])
    for step in [("make", 0, 0, 0), ("mkdir", 0, 0, 1), ("save", 0, 0, 0), ("backup", 0, 0, 0)]:
        user.do(step)
    assert set(user.client.shown()) == {"a", "a~", "b"}
    assert user.removed == {b"<t1>"}

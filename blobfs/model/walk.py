"""Recognise a program that walks a tree, and one that reads its files in order. Pure.

`find`, `ls -R`, `du` and `grep -r` open directory after directory; asking for each alone
costs a round trip each. Programs that read many small files open them in the order of
their names; fetching each alone costs a round trip each, too.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

FOLDERS_OF_A_WALK = 3
"""Directories opened in a row, each soon after the last, that make a walk."""

WALK_GAP_S = 1.0
"""A person who looks around is slower than this; a program hardly ever is."""

FILES_OF_A_RUN = 2
"""Files opened in a row, each next to the last, after which more will follow."""

NAMES_LOOKED_AHEAD = 3
"""How far behind the last file the next one may be: some programs skip a few."""


def common_folder(prefixes: Iterable[str]) -> str:
    """Return the innermost folder, as a prefix with its `/`, that holds all `prefixes`."""
    texts = list(prefixes)
    low, high = min(texts), max(texts)
    end = 0
    for position, (a, b) in enumerate(zip(low, high, strict=False)):
        if a != b:
            break
        if a == "/":
            end = position + 1
    return low[:end]


@dataclass(slots=True)
class WalkDetector:
    """Watches which directories are opened without a listing at hand."""

    _recent: deque[str] = field(default_factory=lambda: deque(maxlen=FOLDERS_OF_A_WALK))
    _last_served_s: float = float("-inf")

    def opened(self, prefix: str, now_s: float) -> str | None:
        """Note that `prefix` has to be listed; return the root of the walk, if it is one."""
        if now_s - self._last_served_s > WALK_GAP_S or prefix in self._recent:
            self._recent.clear()
        self._recent.append(prefix)
        self._last_served_s = now_s
        if len(self._recent) < FOLDERS_OF_A_WALK:
            return None
        root = common_folder(self._recent)
        self._recent.clear()
        return root

    def served(self, now_s: float) -> None:
        """Note that the listing asked for is there: the gap counts from here."""
        self._last_served_s = now_s


@dataclass(slots=True)
class RunDetector:
    """Watches which small files are opened, and says how many to fetch ahead.

    The window doubles with every `grow`, up to `most`.
    """

    most: int = 64
    _expected: frozenset[tuple[str, bytes]] = frozenset()
    _length: int = 0
    _window: int = 8

    def opened(self, folder: str, name: bytes, following: Iterable[bytes], *, first: bool) -> int:
        """Note that `name` was opened; return how many of those that follow to fetch now.

        `following` are the next names of the folder; `first` says that `name` is the first
        file of its folder, so that a run may go on from one folder to another.
        """
        if (folder, name) in self._expected or (first and self._length >= FILES_OF_A_RUN):
            self._length += 1
        else:
            self._length, self._window = 1, 8
        self._expected = frozenset((folder, other) for other in following)
        if self._length < FILES_OF_A_RUN:
            return 0
        window, self._window = self._window, min(self._window * 2, self.most)
        return window

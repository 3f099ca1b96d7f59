"""Know the programs that use a mount: what they hold, and whether they are there at all.

Concurrency: nothing here awaits.
"""

from collections.abc import Callable, Set

from blobfs.model.changes import DirentKey
from blobfs.model.rebase import Foreign
from blobfs.types import InodeNo


class Programs:
    """The programs behind the front-end of one mount, which tells of them once it serves."""

    def __init__(self) -> None:
        self.held: Callable[[], Set[InodeNo]] = frozenset
        """Returns the files that are open."""
        self.place: Callable[[InodeNo], DirentKey | None] = lambda inode: None
        """Returns the name by which a file was found lately, right or wrong by now."""
        self.listeners: list[Callable[[Foreign], None]] = []
        """Told of what others changed, in the step in which it shows."""
        self.requests = 0
        """How often a program asked for anything."""
        self.news = 0
        """How often something of others was replayed."""
        self.on_return: Callable[[], object] | None = None
        """Called once, with the next request: they were not there for a while."""

    def note_request(self) -> None:
        """Note that a program asks for something."""
        self.requests += 1
        if self.on_return is not None:
            called, self.on_return = self.on_return, None
            called()

    def tell(self, foreign: Foreign) -> None:
        """Tell what others changed."""
        self.news += 1
        for listener in self.listeners:
            listener(foreign)

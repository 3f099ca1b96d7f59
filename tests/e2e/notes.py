"""Run the worker beside a mount, and judge by its notes what has to be there afterwards."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.e2e import worker
from tests.e2e.worker import Operation, Tree


@contextlib.contextmanager
def working(root: Path, notes: Path, seed: int) -> Iterator[None]:
    """Let the worker work while we are inside; who cuts it off lets it fail and end."""
    command = [sys.executable, worker.__file__, str(root), str(notes), str(seed)]
    with subprocess.Popen(command) as process:
        try:
            yield
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()


@dataclass(frozen=True)
class Notes:
    """What a worker noted."""

    done: list[Operation]
    """What was acknowledged, in order."""
    begun: Operation | None
    """What was under way when it was cut off: it happened or it did not."""
    promised: int | None = None
    """How many of `done` were noted before the power went; None: all of them."""

    def trees(self, before: Tree, kept: int) -> list[Tree]:
        """Return what a tree may be that was `before` all of it: the first `kept` operations
        happened, those behind them up to any one, which may be torn.
        """
        tree = dict(before)
        for operation in self.done[:kept]:
            worker.apply(tree, operation)
        trees = [dict(tree)]
        for operation in (*self.done[kept:], *([self.begun] if self.begun else [])):
            trees += worker.outcomes(tree, operation)
            worker.apply(tree, operation)
        return trees

    @property
    def synced(self) -> int:
        """How many operations were done when the last fsync returned that still had power."""
        promised = self.done[: self.promised]
        syncs = [number for number, each in enumerate(promised, 1) if each[0] == "sync"]
        return max(syncs, default=0)


def read_notes(path: Path, promised_bytes: int | None = None) -> Notes:
    """Return what a worker noted. Its last line may be torn.

    `promised_bytes` is how long its notes were when the power went.
    """
    done: list[Operation] = []
    begun: Operation | None = None
    promised, length = 0, 0
    for line in path.read_text().splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        length += len(line)
        noted = json.loads(line)
        if noted is not True:
            begun = noted
        elif begun is not None:
            done.append(begun)
            begun = None
            promised += promised_bytes is None or length <= promised_bytes
    return Notes(done, begun, promised)


def difference(found: Tree, expected: Tree) -> dict[str, str]:
    """Say in a few words what is not as expected."""
    return {
        path: f"found {_words(found, path)}, expected {_words(expected, path)}"
        for path in sorted(found.keys() | expected.keys())
        if found.get(path, b"absent") != expected.get(path, b"absent")
    }


def explain(found: Tree, trees: list[Tree]) -> dict[str, str]:
    """Say what is not as in the one of `trees` that is nearest."""
    return min((difference(found, tree) for tree in trees), key=len)


def _words(tree: Tree, path: str) -> str:
    if path not in tree:
        return "nothing"
    content = tree[path]
    return "a directory" if content is None else f"{len(content)} bytes, {hash(content):x}"

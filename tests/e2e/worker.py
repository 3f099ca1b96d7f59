"""Work in a directory, and note elsewhere what was acknowledged: a program that may be cut off.

    python worker.py DIRECTORY NOTES SEED

One line of JSON goes to NOTES before each operation, and one more when it has succeeded. It ends
when an operation fails. Tests read the notes, do the same to a tree in memory, and compare.
"""

import json
import os
import random
import sys
from pathlib import Path

FOLDERS = ("d", "e")
NAMES = ("a", "b", "c", "f")
MOST_BYTES = 60_000
PAGE_BYTES = 4096

Operation = list[object]
Tree = dict[str, bytes | None]
"""Paths and contents; None for directories."""


def draw(chance: random.Random, tree: Tree) -> Operation:
    """Choose an operation that succeeds on `tree`."""
    files = sorted(path for path, content in tree.items() if content is not None)
    folder = chance.choice(["", *(f"{path}/" for path in FOLDERS if path in tree)])
    path = folder + chance.choice(NAMES)
    missing = [name for name in FOLDERS if name not in tree]
    if missing and chance.random() < 0.2:
        return ["mkdir", missing[0]]
    if path not in tree:
        return ["make", path]
    kind = chance.choice(["write"] * 8 + ["sync"] * 3 + ["truncate", "rename", "unlink"])
    match kind:
        case "write":
            offset = chance.choice([0, len(tree[path] or b""), chance.randrange(200_000)])
            return ["write", path, offset, chance.randrange(1 << 30), chance.randrange(MOST_BYTES)]
        case "truncate":
            return ["truncate", path, chance.randrange(200_000)]
        case "rename":
            return ["rename", path, chance.choice(files)]
        case _:
            return [kind, path]


def do(root: Path, operation: Operation) -> None:
    """Do it to a directory."""
    match operation:
        case ["mkdir", str(path)]:
            (root / path).mkdir()
        case ["make", str(path)]:
            os.close(os.open(root / path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        case ["write", str(path), int(offset), int(seed), int(length)]:
            with _opened(root / path) as file:
                os.pwrite(file, _content(seed, length), offset)
        case ["truncate", str(path), int(size)]:
            os.truncate(root / path, size)
        case ["rename", str(old), str(new)]:
            (root / old).rename(root / new)
        case ["unlink", str(path)]:
            (root / path).unlink()
        case ["sync", str(path)]:
            with _opened(root / path) as file:
                os.fsync(file)


def apply(tree: Tree, operation: Operation) -> None:
    """Do it to a tree in memory."""
    match operation:
        case ["mkdir", str(path)]:
            tree[path] = None
        case ["make", str(path)]:
            tree[path] = b""
        case ["write", str(path), int(offset), int(seed), int(length)]:
            tree[path] = _written(tree[path] or b"", offset, _content(seed, length))
        case ["truncate", str(path), int(size)]:
            tree[path] = (tree[path] or b"")[:size].ljust(size, b"\0")
        case ["rename", str(old_path), str(new)]:
            tree[new] = tree.pop(old_path) if old_path != new else tree[new]
        case ["unlink", str(path)]:
            del tree[path]


def outcomes(tree: Tree, operation: Operation) -> list[Tree]:
    """Return what a tree may be when it is not known whether an operation happened.

    A kernel may cut a write into several requests, between two pages, and a kill or a power cut
    come between them.
    """
    trees = [dict(tree)]
    match operation:
        case ["write", str(path), int(offset), int(seed), int(length)]:
            cuts = range(PAGE_BYTES - offset % PAGE_BYTES, length, PAGE_BYTES)
            for cut in cuts:
                torn = _written(tree[path] or b"", offset, _content(seed, length)[:cut])
                trees.append({**tree, path: torn})
    trees.append(dict(tree))
    apply(trees[-1], operation)
    return trees


def scan(root: Path) -> Tree:
    """Return what lies in a directory."""
    tree: Tree = {}
    for path in root.rglob("*"):
        tree[str(path.relative_to(root))] = None if path.is_dir() else path.read_bytes()
    return tree


class _opened:
    """A descriptor for writing, closed in the end."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> int:
        self._file = os.open(self._path, os.O_WRONLY)
        return self._file

    def __exit__(self, *error: object) -> None:
        os.close(self._file)


def _written(old: bytes, offset: int, data: bytes) -> bytes:
    if not data:
        return old
    return old[:offset].ljust(offset, b"\0") + data + old[offset + len(data) :]


def _content(seed: int, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


def main(root: Path, notes: Path, seed: int) -> None:
    chance = random.Random(seed)
    with notes.open("a", buffering=1) as sink:
        try:
            tree = scan(root)
        except OSError:
            return
        while True:
            operation = draw(chance, tree)
            sink.write(json.dumps(operation) + "\n")
            try:
                do(root, operation)
            except OSError:
                return
            sink.write("true\n")
            apply(tree, operation)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))

"""Hold what a check found, to be told to people and programs."""

import os
from dataclasses import dataclass, field
from typing import Literal

import msgspec

MOST_FILES_NAMED = 20

Kind = Literal[
    "volume",
    "log",
    "checkpoint",
    "pack",
    "file",
    "native",
    "client",
    "local",
    "identity",
    "unsaved",
]
"""Where the damage is. `native` is a file that needs what another tool removed or replaced.
`local`, `identity` and `unsaved` are of this machine: what it keeps of the log, which can be made
anew, who it is to the others, and what it has not saved yet, which cannot. All others are of the
bucket."""

_HERE = frozenset({"local", "identity", "unsaved"})


class Damage(msgspec.Struct, frozen=True):
    """One thing that is not as it has to be."""

    kind: Kind
    name: str
    """The key of the object, the path of the file, or the folder on this machine."""
    problem: str
    files: tuple[str, ...] = ()
    """The first of the files that it affects."""
    file_count: int = 0


class UnsavedReport(msgspec.Struct, frozen=True, kw_only=True):
    """What lies on this machine alone, as far as its journal can be read."""

    files: int
    """Inodes that differ from what is saved, directories and removed ones included."""
    names: int
    """Names that were added, moved or removed."""
    bytes: int
    oldest_s: float
    """How long the oldest of it has been waiting."""
    paths: tuple[str, ...]
    """The first of them; removed ones with their old names."""
    uploads: int
    """Packs that were sent for it, and that no commit names yet."""
    commit: int | None
    """The commit under way when the last daemon ended; None: there was none."""


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at, and what is not well."""

    source: str
    volume: str
    """The volume's id, in hex."""
    commits: int
    checkpoints: int
    """From which reading may begin, by what `head` says."""
    packs: int
    stored_bytes: int
    """Of these packs."""
    files: int
    """Names of everything that is no directory."""
    objects: int
    """Of other tools, that files refer to: all were looked at."""
    content_bytes: int
    read_bytes: int
    """Of packs whose every byte was read and verified."""
    damages: tuple[Damage, ...]
    notes: tuple[str, ...]
    """What is worth knowing, and no damage."""
    unsaved: UnsavedReport | None = None
    """None: this machine keeps nothing of the volume, it is mounted, or nobody can tell."""

    @property
    def is_bucket_whole(self) -> bool:
        return all(damage.kind in _HERE for damage in self.damages)

    @property
    def has_local_damage(self) -> bool:
        """Whether what this machine keeps of the log is not right."""
        return any(damage.kind == "local" for damage in self.damages)

    def is_well(self, *, repaired: bool) -> bool:
        """Return whether nothing is damaged, now that local damage was `repaired`, or not."""
        return all(damage.kind == "local" and repaired for damage in self.damages)


@dataclass(slots=True)
class Affected:
    """Files that a damage affects: all are counted, the first are named."""

    names: list[str] = field(default_factory=list)
    count: int = 0
    _last: bytes | None = None

    def add(self, path: bytes) -> None:
        """Note a file; the chunks of one file come one after the other."""
        if path == self._last:
            return
        self._last = path
        self.count += 1
        if len(self.names) < MOST_FILES_NAMED:
            self.names.append(shown_path(path))


@dataclass(slots=True)
class Findings:
    """What was found so far."""

    damages: list[Damage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def damaged(self, kind: Kind, name: str, problem: str, files: Affected | None = None) -> None:
        affected = files or Affected()
        damage = Damage(kind, name, problem, tuple(affected.names), affected.count)
        self.damages.append(damage)


def shown_path(path: bytes) -> str:
    """Return a path as it may be shown: names hold any byte, also those that steer terminals."""
    text = os.fsdecode(path)
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)

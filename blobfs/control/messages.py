"""Define what command line and daemon say to each other: JSON, one message a line.

Every message carries the protocol's number, and a `type` that says which one it is. Fields
may be added without a new number, since unknown ones are ignored; anything else needs one,
and the side that meets another number says so instead of guessing.

`StatusDocument` is at the same time the answer of `blobfs status --json`: an interface for
other programs, described in docs/status.md. Add to it, never change what is there.
"""

from typing import Literal, TypeVar

import msgspec

from blobfs.errors import BlobfsError, Unsupported

PROTOCOL = 1
STATUS_SCHEMA = 1

MAX_REQUEST_BYTES = 64 * 1024
MAX_REPLY_BYTES = 4 * 1024 * 1024
"""Bounds what a confused peer can make the other side keep in memory."""

State = Literal["starting", "mounted", "stopping", "unresponsive", "dead"]
"""`unresponsive`: the daemon runs, but did not answer in time. `dead`: it has ended."""


class CacheStatus(msgspec.Struct, frozen=True):
    """Use of the disk cache."""

    bytes: int
    limit_bytes: int
    hits: int
    misses: int


class Latency(msgspec.Struct, frozen=True):
    """How long requests of one class took, until their answers were whole."""

    p50_s: float
    """Half of them took no longer."""
    p99_s: float
    counts: tuple[int, ...]
    """By `latency_bounds_s`: as many as took at most that long, and longer than the bound before;
    the last count is of those that took longer than all bounds."""


class StoreStatus(msgspec.Struct, frozen=True):
    """What was asked of the store since the daemon started."""

    requests: dict[str, int]
    bytes_received: int
    bytes_sent: int
    errors: int
    retries: int
    latency: dict[str, Latency] = {}
    """Of each class that was asked for."""
    latency_bounds_s: tuple[float, ...] = ()


class ListingsStatus(msgspec.Struct, frozen=True):
    """The directory listings that are kept."""

    known: int
    stale: int
    last_error: str | None = None


class OddKey(msgspec.Struct, frozen=True):
    """A key that cannot be shown as a file, and why."""

    key: str
    reason: str


class OddKeys(msgspec.Struct, frozen=True):
    """All keys that cannot be shown are counted; the first of them are named."""

    count: int = 0
    names: tuple[OddKey, ...] = ()


class UnsavedStatus(msgspec.Struct, frozen=True):
    """What is on this machine alone."""

    files: int = 0
    bytes: int = 0
    oldest_s: float = 0.0
    """How long the oldest of it has been waiting."""
    uploading_files: int = 0
    uploaded_bytes: int = 0
    """Sent in packs since the mount began: as long as it grows, saving gets on."""
    room_bytes: int = 0
    """How much more can be taken in before writers wait."""
    problem: str | None = None
    """Why saving does not get on, if it does not."""
    damaged: tuple[str, ...] = ()
    """What the disk lost of it, in words."""


class CommitStatus(msgspec.Struct, frozen=True):
    """The last commit of this client."""

    seq: int
    age_s: float
    files: int
    bytes: int


class QuotaStatus(msgspec.Struct, frozen=True):
    """How large the volume is, and may be."""

    used_bytes: int
    """By the sizes of its files, once everything is saved."""
    limit_bytes: int | None = None
    """None: there is no limit."""


class TrashStatus(msgspec.Struct, frozen=True):
    """Objects of other tools that were removed here, and whose bytes the bucket still has."""

    objects: int = 0
    bytes: int = 0
    problem: str | None = None
    """Why they are kept though the volume keeps no trash, if they are."""


class Gauges(msgspec.Struct, frozen=True, kw_only=True):
    """What the file system of one mount measures of itself."""

    cache: CacheStatus
    store: StoreStatus
    fuse: dict[str, int]
    listings: ListingsStatus
    odd_keys: OddKeys = OddKeys()
    open_files: int
    unsaved: UnsavedStatus
    safe: bool
    seq: int
    quota: QuotaStatus
    trash: TrashStatus = TrashStatus()
    last_commit: CommitStatus | None = None
    read_only_reason: str | None = None
    incomplete: str | None = None
    behind: str | None = None


class MountStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One mount. What only its daemon knows is None when the daemon does not answer."""

    mountpoint: str
    source: str
    pid: int
    read_only: bool
    uptime_s: float | None = None
    state: State
    problem: str | None = None
    """Why the daemon's own figures are missing, if they are."""
    cache: CacheStatus | None = None
    store: StoreStatus | None = None
    memory_bytes: int | None = None
    fuse: dict[str, int] | None = None
    listings: ListingsStatus | None = None
    odd_keys: OddKeys | None = None
    open_files: int | None = None
    unsaved: UnsavedStatus | None = None
    seq: int | None = None
    """The newest commit of the volume that is shown; 0: nothing was ever committed."""
    safe: bool | None = None
    """Whether everything is in the bucket; None: nobody knows."""
    quota: QuotaStatus | None = None
    trash: TrashStatus | None = None
    last_commit: CommitStatus | None = None
    read_only_reason: str | None = None
    """Why nothing can be written, where nobody asked for `--read-only`."""
    incomplete: str | None = None
    """Why some files cannot be shown until the next mount."""
    behind: str | None = None
    """Why what others save cannot be seen at the moment."""


class TreeStatus(msgspec.Struct, frozen=True):
    """Which tree a mount shows, so that it can be compared with what the bucket says."""

    seq: int
    chain: str
    """SHA-256 of that commit, of the object `volume` before the first; in hex, like the digest."""
    inodes: int
    content_bytes: int
    dirents_digest: str


class StatusDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What `blobfs status --json` prints."""

    schema: int = STATUS_SCHEMA
    mounts: tuple[MountStatus, ...]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    protocol: int = PROTOCOL


class StatusRequest(_Message, frozen=True, tag="status"):
    """Asks for a `StatusReply`."""


class UnmountRequest(_Message, frozen=True, tag="unmount"):
    """Asks to detach the mount, then to end; the answer is `Unmounted` or a `Failure`."""


class SyncRequest(_Message, frozen=True, tag="sync"):
    """Asks to save all that was acknowledged so far, and how far that is.

    Without `upto` it begins one; the reply says which `upto` to ask for again, until it is done.
    """

    upto: int | None = None


class HeedSettingsRequest(_Message, frozen=True, tag="heed_settings"):
    """Asks to look at the settings of the volume, and to heed them from now on."""


class DescribeRequest(_Message, frozen=True, tag="describe"):
    """Asks what is mounted, and how one gets at it: the answer is a `Description`."""


class StatusReply(_Message, frozen=True, tag="status"):
    mount: MountStatus


class SyncReply(_Message, frozen=True, tag="sync"):
    """How far saving is: nothing changed up to `upto` is unsaved once it is `done`."""

    upto: int
    done: bool
    seq: int
    unsaved: UnsavedStatus


class Description(_Message, frozen=True, kw_only=True, tag="description"):
    """How to open what is mounted, but for credentials: those are whoever asks' own."""

    source: str
    state_dir: str
    """Of this source alone."""
    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    anonymous: bool = False
    account: str | None = None
    tree: TreeStatus


class SettingsHeeded(_Message, frozen=True, tag="settings_heeded"):
    """The mount knows the settings that its volume has now."""


class Unmounted(_Message, frozen=True, tag="unmounted"):
    """The mount is gone; the daemon is about to end."""


class Failure(_Message, frozen=True, tag="failure"):
    """It could not be done. Carries a `BlobfsError` over."""

    message: str
    hint: str = ""
    exit_code: int = BlobfsError.exit_code


class Ready(_Message, frozen=True, tag="ready"):
    """The daemon's first word on its start-up pipe: the mount can be used."""

    read_only_reason: str | None = None
    """Why nothing can be written, where nobody asked for `--read-only`."""


Request = StatusRequest | SyncRequest | UnmountRequest | DescribeRequest | HeedSettingsRequest
Reply = StatusReply | SyncReply | Unmounted | Description | SettingsHeeded | Failure
StartReport = Ready | Failure


class _Envelope(msgspec.Struct, frozen=True):
    protocol: int


T = TypeVar("T")


def encode(message: _Message) -> bytes:
    """Return the message as one line, with its end."""
    return msgspec.json.encode(message) + b"\n"


def decode_request(line: bytes) -> Request:
    """Read a request; see `_decode` for what it raises."""
    return _decode(line, Request, "the command line")  # type: ignore[arg-type]


def decode_reply(line: bytes) -> Reply:
    """Read a reply; see `_decode` for what it raises."""
    return _decode(line, Reply, "the daemon")  # type: ignore[arg-type]


def decode_start_report(line: bytes) -> StartReport:
    """Read a start-up report; see `_decode` for what it raises."""
    return _decode(line, StartReport, "the daemon")  # type: ignore[arg-type]


def as_failure(error: BlobfsError) -> Failure:
    return Failure(message=str(error), hint=error.hint, exit_code=error.exit_code)


def as_error(failure: Failure) -> BlobfsError:
    """Return the error that the other side met, to be raised on this one."""
    error = BlobfsError(failure.message, hint=failure.hint)
    error.exit_code = failure.exit_code
    return error


def _decode(line: bytes, kind: type[T], peer: str) -> T:
    """Read one message of the union `kind`.

    Raises:
        Unsupported: the peer speaks another protocol, or sent none of these messages.
    """
    try:
        theirs = msgspec.json.decode(line, type=_Envelope).protocol
        if theirs == PROTOCOL:
            return msgspec.json.decode(line, type=kind)
    except msgspec.DecodeError as error:
        raise Unsupported(f"{peer} sent what is not understood: {error}") from error
    raise Unsupported(
        f"{peer} speaks another version of the control protocol. theirs={theirs} ours={PROTOCOL}",
        hint="use the same version of blobfs for the daemon and the command line",
    )

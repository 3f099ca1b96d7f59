"""The control socket from the daemon's side: whatever clients do, files are served on."""

import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio
import trio.testing

from blobfs.control.messages import (
    PROTOCOL,
    DescribeRequest,
    Description,
    Failure,
    HeedSettingsRequest,
    MountStatus,
    Reply,
    SettingsHeeded,
    StatusReply,
    StatusRequest,
    SyncReply,
    SyncRequest,
    TreeStatus,
    Unmounted,
    UnmountRequest,
    UnsavedStatus,
    decode_reply,
    encode,
)
from blobfs.errors import InUse, Unreachable
from mountd.server import serve_control
from tests.mountd.home import Home

STATUS = MountStatus(mountpoint="/m", source="s3://b", pid=1, read_only=True, state="mounted")

DESCRIPTION = Description(
    source="s3://b",
    state_dir="/s/1",
    region="here",
    tree=TreeStatus(seq=3, chain="c1", inodes=1, content_bytes=0, dirents_digest="d1"),
)


class FakeControl:
    """Answers as it was told to."""

    def __init__(
        self,
        unmount: Callable[[], None] = lambda: None,
        status: MountStatus = STATUS,
        heed: Callable[[], None] = lambda: None,
    ) -> None:
        self._unmount = unmount
        self._heed = heed
        self._status = status

    def status(self) -> MountStatus:
        return self._status

    def sync(self, upto: int | None) -> SyncReply:
        unsaved = UnsavedStatus(files=1)
        return SyncReply(upto=7 if upto is None else upto, done=upto == 7, seq=3, unsaved=unsaved)

    def describe(self) -> Description:
        return DESCRIPTION

    async def heed_settings(self) -> None:
        self._heed()

    async def unmount(self) -> None:
        self._unmount()


@asynccontextmanager
async def serving(home: Home, control: FakeControl) -> AsyncIterator[Path]:
    path = home.root / "sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(32)
    async with trio.open_nursery() as nursery:
        accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        nursery.start_soon(serve_control, accepting, control)
        yield path
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def talking(home: Home, control: FakeControl) -> AsyncIterator[trio.SocketStream]:
    async with serving(home, control) as path, await trio.open_unix_socket(path) as client:
        yield client


async def say(stream: trio.SocketStream, data: bytes) -> Reply | None:
    """Send `data` and return the answer; None: the daemon hung up."""
    await stream.send_all(data)
    return await hear(stream)


async def hear(stream: trio.SocketStream) -> Reply | None:
    line = b""
    while not line.endswith(b"\n"):
        try:
            part = await stream.receive_some()
        except trio.BrokenResourceError:  # it hung up with words of ours unread
            part = b""
        if not part:
            return None
        line += part
    return decode_reply(line)


async def test_several_requests_on_one_line(home: Home) -> None:
    """A program that watches status would have to connect each time."""
    async with talking(home, FakeControl()) as client:
        assert await say(client, encode(StatusRequest())) == StatusReply(mount=STATUS)
        assert await say(client, encode(UnmountRequest())) == Unmounted()
        # In pieces, as a socket may deliver them.
        line = encode(StatusRequest())
        await client.send_all(line[:7])
        assert await say(client, line[7:]) == StatusReply(mount=STATUS)


async def test_saving_is_asked_for_and_then_asked_about(home: Home) -> None:
    """`blobfs sync` would chase a program that writes on and on, and never return."""
    async with talking(home, FakeControl()) as client:
        begun = await say(client, encode(SyncRequest()))
        assert isinstance(begun, SyncReply)
        assert (begun.upto, begun.done) == (7, False)
        done = await say(client, encode(SyncRequest(upto=begun.upto)))
        assert isinstance(done, SyncReply)
        assert done.done


async def test_what_is_mounted_and_how_can_be_asked(home: Home) -> None:
    """`blobfs check ~/data` could not open the bucket behind it."""
    async with talking(home, FakeControl()) as client:
        assert await say(client, encode(DescribeRequest())) == DESCRIPTION


async def test_settings_are_heeded_when_somebody_asks(home: Home) -> None:
    """Who raised a quota would have to wait for the next look."""
    heeded: list[bool] = []
    async with talking(home, FakeControl(heed=lambda: heeded.append(True))) as client:
        assert await say(client, encode(HeedSettingsRequest())) == SettingsHeeded()
    assert heeded == [True]


async def test_settings_that_cannot_be_read_are_not_heeded(home: Home) -> None:
    """`blobfs settings` would claim what is not so."""

    def unplugged() -> None:
        raise Unreachable("no answer")

    async with talking(home, FakeControl(heed=unplugged)) as client:
        expected = Failure(message="no answer", exit_code=Unreachable.exit_code)
        assert await say(client, encode(HeedSettingsRequest())) == expected


async def test_a_busy_mount_says_why(home: Home) -> None:
    """`blobfs unmount` would claim success while the mount is still there."""

    def busy() -> None:
        raise InUse("files are open", hint="close them")

    async with talking(home, FakeControl(busy)) as client:
        expected = Failure(message="files are open", hint="close them", exit_code=6)
        assert await say(client, encode(UnmountRequest())) == expected


async def test_a_fault_of_ours_is_an_answer(home: Home) -> None:
    """A fault in status would take the whole mount down."""

    def broken() -> None:
        raise ZeroDivisionError

    async with talking(home, FakeControl(broken)) as client:
        reply = await say(client, encode(UnmountRequest()))
        assert isinstance(reply, Failure)
        assert reply.exit_code == 70
        assert await say(client, encode(StatusRequest())) == StatusReply(mount=STATUS)


async def test_garbage_is_answered_and_ends_the_talk(home: Home) -> None:
    """A stray client would bring the daemon down or keep a place for ever."""
    async with serving(home, FakeControl()) as path:
        async with await trio.open_unix_socket(path) as client:
            reply = await say(client, b"GET / HTTP/1.1\r\n\r\n")
            assert isinstance(reply, Failure)
            assert await hear(client) is None
        async with await trio.open_unix_socket(path) as client:
            assert await say(client, encode(StatusRequest())) == StatusReply(mount=STATUS)


async def test_an_older_command_learns_that_it_is_one(home: Home) -> None:
    """After an update of one side, the other would fail without a reason."""
    other = encode(StatusRequest(protocol=PROTOCOL - 1))
    async with talking(home, FakeControl()) as client:
        reply = await say(client, other)
        assert isinstance(reply, Failure)
        assert "another version" in reply.message


async def test_an_endless_line_is_not_kept(home: Home) -> None:
    """A client could fill the daemon's memory."""
    async with talking(home, FakeControl()) as client:
        with contextlib.suppress(trio.BrokenResourceError):
            await client.send_all(b"x" * 1_000_000)
        assert await hear(client) is None


async def test_an_idle_client_is_let_go(home: Home, autojump_clock: trio.testing.MockClock) -> None:
    """Forgotten connections would fill all places, and nobody could unmount any more."""
    async with talking(home, FakeControl()) as client:
        assert await hear(client) is None
    assert trio.current_time() >= 10


async def test_too_many_clients_are_turned_away(home: Home) -> None:
    """A runaway script would take all of the daemon's file handles."""
    async with serving(home, FakeControl()) as path, contextlib.AsyncExitStack() as clients:
        for _ in range(16):
            client = await clients.enter_async_context(await trio.open_unix_socket(path))
            assert await say(client, encode(StatusRequest())) == StatusReply(mount=STATUS)
        async with await trio.open_unix_socket(path) as one_more:
            assert await hear(one_more) is None
        assert await say(client, encode(StatusRequest())) == StatusReply(mount=STATUS)


async def test_an_answer_that_cannot_be_written_down_ends_nothing(home: Home) -> None:
    """A key with bytes that are no text would otherwise take the mount away."""
    control = FakeControl(status=msgspec.structs.replace(STATUS, problem="\udcff"))
    async with serving(home, control) as path:
        async with await trio.open_unix_socket(path) as client:
            assert isinstance(await say(client, encode(StatusRequest())), Failure)
        async with await trio.open_unix_socket(path) as client:
            assert await say(client, encode(UnmountRequest())) == Unmounted()

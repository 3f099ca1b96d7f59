"""The kernel is told what is outdated, and nothing ever waits for it that it waits for."""

import errno
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing

from blobfs.types import NodeNo
from blobfs.vfs.kernel_view import Outdated
from mountd import invalidation
from mountd.invalidation import Invalidator, Kernel

FOLDER, FILE = NodeNo(1), NodeNo(7)


@dataclass
class Listener:
    """A kernel that notes what it is told; `on_call` happens in the thread that tells it."""

    told: list[object] = field(default_factory=list)
    on_call: Callable[[], None] = lambda: None

    def kernel(self) -> Kernel:
        return Kernel(lambda folder, name: self._note((folder, name)), self._note)

    def _note(self, what: object) -> None:
        self.told.append(what)
        self.on_call()


async def until_told(invalidator: Invalidator, listener: Listener, count: int) -> None:
    """Let the kernel be told of so many things."""
    done = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def look() -> None:
        if len(listener.told) == count:
            token.run_sync_soon(done.set)

    listener.on_call = look
    with trio.fail_after(10):
        await invalidator.tell_while(done.wait)


async def test_names_and_attributes_are_told() -> None:
    """What others did would be seen half a minute late."""
    listener = Listener()
    invalidator = Invalidator(listener.kernel())
    invalidator.note(Outdated(((FOLDER, b"f"),), (FILE,)))
    await until_told(invalidator, listener, 2)
    assert listener.told == [(FOLDER, b"f"), FILE]


async def test_what_is_noted_twice_is_told_once() -> None:
    """A file that is written all day elsewhere would keep a thread busy."""
    listener = Listener()
    invalidator = Invalidator(listener.kernel())
    for _ in range(5):
        invalidator.note(Outdated(((FOLDER, b"f"),), (FILE,)))
    await until_told(invalidator, listener, 2)
    assert len(listener.told) == 2


async def test_more_than_fits_into_one_go_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came first would be forgotten when others change a thousand files."""
    monkeypatch.setattr(invalidation, "AT_ONCE", 3)
    listener = Listener()
    invalidator = Invalidator(listener.kernel())
    names = tuple((FOLDER, b"%d" % number) for number in range(10))
    invalidator.note(Outdated(names, (FILE,)))
    await until_told(invalidator, listener, 11)
    assert {*names, FILE} == set(listener.told)


async def test_memory_is_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A kernel that lets us wait would let memory grow with each commit of others."""
    monkeypatch.setattr(invalidation, "MOST_PENDING", 1)
    listener = Listener()
    invalidator = Invalidator(listener.kernel())
    invalidator.note(Outdated(((FOLDER, b"f"),)))
    invalidator.note(Outdated(((FOLDER, b"g"),)))
    await until_told(invalidator, listener, 1)
    assert listener.told == [(FOLDER, b"f")]
    assert "half a minute" in caplog.text


@pytest.mark.parametrize(("number", "is_logged"), [(errno.ENOENT, False), (errno.ENODEV, True)])
async def test_what_the_kernel_refuses_does_not_stop_the_rest(
    number: int, is_logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A name that it has forgotten, or an old kernel, would end the mount."""
    listener = Listener()

    def forget_name(folder: NodeNo, name: bytes) -> None:
        raise OSError(number, "no")

    invalidator = Invalidator(Kernel(forget_name, listener.kernel().forget_attributes))
    invalidator.note(Outdated(((FOLDER, b"f"),), (FILE,)))
    with caplog.at_level(logging.WARNING):
        await until_told(invalidator, listener, 1)
    assert bool(caplog.records) == is_logged


async def test_requests_are_answered_while_the_kernel_lets_us_wait() -> None:
    """It waits for one of them: the mount would hang, and with it whoever uses it (P8)."""
    answered = threading.Event()
    listener = Listener(on_call=lambda: None if answered.wait(10) else pytest.fail("no answer"))
    invalidator = Invalidator(listener.kernel())
    over = trio.Event()

    async def serve() -> None:
        while not listener.told:
            await trio.testing.wait_all_tasks_blocked()
        answered.set()
        await over.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(invalidator.tell_while, serve)
        invalidator.note(Outdated(((FOLDER, b"f"),)))
        with trio.fail_after(10):
            await trio.to_thread.run_sync(answered.wait)
        over.set()


async def test_the_end_waits_for_one_call_and_answers_requests_meanwhile() -> None:
    """The kernel would wait for us and we for it, and the mount could not be taken away (P8)."""
    begun, answered = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()

    def wait_for_answer() -> None:
        token.run_sync_soon(begun.set)
        if not answered.wait(10):
            pytest.fail("no answer")

    listener = Listener(on_call=wait_for_answer)
    invalidator = Invalidator(listener.kernel())
    invalidator.note(Outdated(((FOLDER, b"f"), (FOLDER, b"g"))))
    ended = trio.Event()

    async def serve() -> None:
        await ended.wait()
        await trio.testing.wait_all_tasks_blocked()
        answered.set()
        await trio.sleep_forever()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(invalidator.tell_while, serve)
            await begun.wait()
            nursery.cancel_scope.cancel()
            ended.set()
    assert len(listener.told) == 1

"""Processes: who lives, who holds a mount, and whom a signal may reach."""

import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from blobfs.control.processes import (
    Holder,
    holders,
    is_running,
    own_memory_bytes,
    started_at,
    wait_ended,
)

WAITER = "import sys; print('up', flush=True); sys.stdin.read()"


@pytest.fixture
def waiter(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that stands in `tmp_path` and waits."""
    with subprocess.Popen(
        [sys.executable, "-c", WAITER],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def start_of(process: "subprocess.Popen[str]") -> int:
    started = started_at(process.pid)
    assert started is not None
    return started


def test_a_number_used_again_is_another_process(waiter: "subprocess.Popen[str]") -> None:
    """A dead daemon would look alive for as long as some other program has its number."""
    assert is_running(waiter.pid, start_of(waiter))
    assert not is_running(waiter.pid, start_of(waiter) - 1)


def test_a_zombie_does_not_run(waiter: "subprocess.Popen[str]") -> None:
    """Where nobody collects the dead, as in many containers, no unmount would ever end."""
    started = start_of(waiter)
    waiter.kill()
    assert wait_ended(waiter.pid, started, 10)
    assert not is_running(waiter.pid, started)
    assert started_at(waiter.pid) is None


def test_waiting_has_an_end(waiter: "subprocess.Popen[str]") -> None:
    """`blobfs unmount` would wait for a hung daemon for ever."""
    assert not wait_ended(waiter.pid, start_of(waiter), 0.01)


def test_waiting_for_somebody_who_is_gone() -> None:
    """A daemon that was quicker than the command would be an error."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert wait_ended(process.pid, 1, 10)


def test_a_signal_reaches_only_the_process_that_was_meant(
    waiter: "subprocess.Popen[str]",
) -> None:
    """`unmount --force` would kill a stranger with the number of a dead daemon."""
    assert wait_ended(waiter.pid, start_of(waiter) - 1, 0, send=signal.SIGKILL)
    assert is_running(waiter.pid, start_of(waiter))
    assert wait_ended(waiter.pid, start_of(waiter), 10, send=signal.SIGTERM)


def test_who_stands_in_a_folder_holds_it(waiter: "subprocess.Popen[str]", tmp_path: Path) -> None:
    """A busy mount would not tell which program to close."""
    name = (Path("/proc") / str(waiter.pid) / "comm").read_text().strip()
    assert holders(str(tmp_path)) == [Holder(waiter.pid, name)]
    assert holders(str(tmp_path / "elsewhere")) == []


def test_who_has_a_file_open_holds_it(tmp_path: Path) -> None:
    """The same for a program that stands elsewhere."""
    with (tmp_path / "file").open("w"):
        assert [holder.pid for holder in holders(str(tmp_path))] == [os.getpid()]


def test_memory_grows_with_what_is_kept() -> None:
    """`blobfs status` would show a figure that means nothing."""
    before = own_memory_bytes()
    # Not from the heap, which may have as much to spare.
    kept = mmap.mmap(-1, 32 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    kept.write(os.urandom(1 << 20) * 32)
    assert own_memory_bytes() - before > 24 << 20
    kept.close()

"""How commands reach a volume, and how they end when they cannot."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from blobfs.cli import target
from blobfs.cli.target import Target, find_target, run_on_store
from blobfs.control.messages import Description, TreeStatus
from blobfs.control.registry import Registration
from blobfs.env import Env
from blobfs.errors import Unreachable, UsageError
from blobfs.stores.opening import OpenedStore, StoreOptions, parse_source

TREE = TreeStatus(seq=3, chain="c1", inodes=1, content_bytes=0, dirents_digest="d1")
Work = Callable[[OpenedStore, Env], Awaitable[None]]


def folder_target(folder: Path) -> Target:
    return Target(parse_source(f"file://{folder}"), StoreOptions(), folder / "state", None)


def failing_with(error: BaseException) -> Work:
    """Return work that fails in a task of its own, as most of it does."""

    async def fail() -> None:
        raise error

    async def work(opened: OpenedStore, env: Env) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)

    return work


@pytest.mark.parametrize("error", [Unreachable("no answer"), KeyboardInterrupt()])
def test_what_went_wrong_is_told_by_itself(tmp_path: Path, error: BaseException) -> None:
    """A network that is down, or Ctrl-C, would look like a fault in blobfs."""
    with pytest.raises(type(error)):
        run_on_store(folder_target(tmp_path), failing_with(error))


def test_a_fault_of_ours_stays_one(tmp_path: Path) -> None:
    """What should be reported would be swallowed."""
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        run_on_store(folder_target(tmp_path), failing_with(ZeroDivisionError()))


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Registration]:
    """Mounts of this user, which a test adds; all daemons answer, with a region of their own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    found: list[Registration] = []
    monkeypatch.setattr(target, "registrations", lambda runtime: found)
    monkeypatch.setattr(
        target,
        "locate_mount",
        lambda runtime, path: next((row for row in found if row.mountpoint == path), None),
    )
    monkeypatch.setattr(target, "request_description", lambda runtime, mount: described(mount))
    monkeypatch.setattr(Registration, "alive", True)
    return found


def mount(mountpoint: str, source: str = "s3://bucket") -> Registration:
    return Registration(
        mountpoint=mountpoint, source=source, read_only=False, pid=1, process_started=1
    )


def described(row: Registration) -> Description:
    return Description(source=row.source, state_dir="/state/of/it", region="there", tree=TREE)


def test_a_path_is_what_is_mounted_there(mounts: list[Registration]) -> None:
    """The daemon knows the region and the endpoint, and the user would have to say them again."""
    mounts += [mount("/a"), mount("/b", "s3://other")]
    found = find_target("/b", {})
    assert (found.source.url, found.options.region) == ("s3://other", "there")
    assert found.state_dir == Path("/state/of/it")
    assert found.mounted is not None


def test_the_only_mount_need_not_be_named(mounts: list[Registration]) -> None:
    """Or one of several would be taken, and not the one that was meant."""
    mounts += [mount("/a")]
    assert find_target(None, {}).source.url == "s3://bucket"
    mounts += [mount("/b")]
    with pytest.raises(UsageError, match="several volumes are mounted"):
        find_target(None, {})


def test_a_source_that_is_mounted_is_known_to_be(
    mounts: list[Registration], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its state would be in use, and the check refused."""
    alone = find_target("s3://bucket", {"region": "here"})
    assert (alone.mounted, alone.options.region) == (None, "here")
    mounts += [mount("/a")]
    assert find_target("s3://bucket", {}).mounted is None  # its state lies elsewhere
    here = Description(source="s3://bucket", state_dir=str(alone.state_dir), tree=TREE)
    monkeypatch.setattr(target, "request_description", lambda runtime, mount: here)
    assert find_target("s3://bucket", {}).mounted == here

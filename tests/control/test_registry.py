"""Who serves which mount, and what is made of the traces of those that died."""

import fcntl
import os
import socket
from pathlib import Path

import pytest

from blobfs.control import registry
from blobfs.control.processes import started_at
from blobfs.control.registry import (
    Registration,
    claim,
    find_registration,
    forget,
    place_of,
    registrations,
)
from blobfs.errors import InUse, LocalFault
from tests.mountd.home import Home


def entry(mountpoint: str = "/m", *, alive: bool = True) -> Registration:
    started = started_at(os.getpid())
    assert started is not None
    return Registration(
        mountpoint=mountpoint,
        source="s3://bucket",
        read_only=True,
        pid=os.getpid(),
        process_started=started if alive else started - 1,
    )


def test_a_claim_is_listed_while_it_lasts(home: Home) -> None:
    """A mount would not be found, or one that has ended would."""
    with claim(home.runtime, entry()) as claimed:
        assert registrations(home.runtime) == [entry()]
        assert not registrations(home.runtime)[0].ready
        claimed.announce_ready()
        assert registrations(home.runtime)[0].ready
    assert home.leftovers() == []


def test_the_socket_answers_and_is_private(home: Home) -> None:
    """Nobody could ask the daemon, or everybody could."""
    with claim(home.runtime, entry()), socket.socket(socket.AF_UNIX) as client:
        path = place_of(home.runtime, "/m").socket
        client.connect(str(path))
        assert path.stat().st_mode & 0o777 == 0o600
        assert home.runtime.stat().st_mode & 0o777 == 0o700


def test_a_living_daemon_keeps_its_mountpoint(home: Home) -> None:
    """Two daemons would serve one mountpoint, and the second hide the first."""
    with claim(home.runtime, entry()):
        with pytest.raises(InUse, match="taken") as refused, claim(home.runtime, entry()):
            pass
        assert "blobfs unmount /m" in refused.value.hint
        assert registrations(home.runtime) == [entry()]


def test_a_dead_daemon_makes_room(home: Home) -> None:
    """After a crash, nothing could be mounted there until somebody deletes files by hand."""
    with claim(home.runtime, entry()):
        place = place_of(home.runtime, "/m")
        record = place.record.read_bytes()
    dead = record.replace(str(entry().process_started).encode(), b"1")
    place.record.write_bytes(dead)
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(place.socket))
    assert not registrations(home.runtime)[0].alive
    with claim(home.runtime, entry()):
        assert registrations(home.runtime) == [entry()]


def test_forgetting_spares_a_successor(home: Home) -> None:
    """A status that saw a dead daemon would cut off the one that came after it."""
    with claim(home.runtime, entry()):
        forget(home.runtime, entry(alive=False))
        assert registrations(home.runtime) == [entry()]


def test_a_damaged_record_hides_no_other(home: Home) -> None:
    """One torn file would make `blobfs status` fail altogether."""
    with claim(home.runtime, entry()):
        (home.runtime / "torn.json").write_text('{"mountpoint": ')
        assert registrations(home.runtime) == [entry()]
        (home.runtime / "torn.json").unlink()


def test_a_path_inside_finds_its_mount(home: Home) -> None:
    """`blobfs status .` would not work in a mount, or name a neighbour."""
    with claim(home.runtime, entry("/m")), claim(home.runtime, entry("/m/in")):
        found = {
            path: getattr(find_registration(home.runtime, path), "mountpoint", None)
            for path in ("/m", "/m/x", "/m/in", "/m/in/x/y", "/m/inner", "/mm", "/")
        }
    assert found == {
        "/m": "/m",
        "/m/x": "/m",
        "/m/in": "/m/in",
        "/m/in/x/y": "/m/in",
        "/m/inner": "/m",
        "/mm": None,
        "/": None,
    }


def test_a_path_too_long_for_a_socket_is_explained(home: Home) -> None:
    """The user would read `AF_UNIX path too long` and not know which one."""
    deep = home.root / ("x" * 100)
    with pytest.raises(LocalFault, match="too long") as refused, claim(deep, entry()):
        pass
    assert "XDG_RUNTIME_DIR" in refused.value.hint
    assert list(deep.iterdir()) == []


def test_nothing_is_listed_where_nothing_was(tmp_path: Path) -> None:
    """The first `blobfs status` would fail."""
    assert registrations(tmp_path / "none") == []


def test_a_stopped_process_holds_nobody_up_for_ever(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`blobfs mount` would hang because of another one that somebody stopped with Ctrl-Z."""
    monkeypatch.setattr(registry, "_TURN_WITHIN_S", 0.1)
    with claim(home.runtime, entry("/other")):
        pass  # makes the folder
    holder = os.open(home.runtime, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(InUse, match="another blobfs process"), claim(home.runtime, entry()):
            pass
    finally:
        os.close(holder)
    with claim(home.runtime, entry()):
        assert registrations(home.runtime) == [entry()]

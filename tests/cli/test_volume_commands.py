"""`init`, `log` and `check`, on a folder that plays the bucket: what people and programs read."""

import json
from pathlib import Path

import pytest
import trio

from blobfs.env import Env
from blobfs.folders import state_root
from blobfs.stores.opening import StoreOptions, open_store, parse_source
from blobfs.sync.checkpoint import CheckpointWriter
from blobfs.sync.checkpoint_making import CheckpointSizes
from blobfs.types import ClientId
from tests.cli.calls import call
from tests.mountd.home import Home
from tests.sync.place import opened_place

pytestmark = pytest.mark.slow


def write(home: Home, bucket: Path, *names: str) -> None:
    """Save files through the volume, from a machine of its own."""

    async def run() -> None:
        opened = await open_store(parse_source(f"file://{bucket}"), StoreOptions(), Env())
        async with opened_place(opened.store, home.root / "elsewhere") as place:
            for name in names:
                await place.write(name, name.encode() * 2000)
                await place.save()

    trio.run(run)


def test_init_names_what_it_made(home: Home, bucket: Path) -> None:
    """Nobody could tell one volume from another, nor what to do next."""
    made = call(home, "init", f"file://{bucket}", "--compression", "none")
    info = json.loads((bucket / ".blobfs" / "volume").read_text())
    assert made.output.splitlines() == [
        f"made a volume of file://{bucket}",
        f"  id           {info['id']}",
        "  compression  none",
        f"mount it with: blobfs mount file://{bucket} MOUNTPOINT",
    ]
    assert info["compression"] == "none"
    again = call(home, "init", f"file://{bucket}")
    assert again.exit_code == 7
    assert again.stderr.startswith("blobfs: there is a volume already.")


def test_log_is_a_table(home: Home, bucket: Path) -> None:
    """Who looks for the commit that broke something would have to read JSON."""
    source = f"file://{bucket}"
    call(home, "init", source)
    assert call(home, "log", source).output == "nothing was committed yet\n"
    write(home, bucket, "one", "two")
    title, newest, oldest = call(home, "log", source).output.splitlines()
    assert title.split() == ["commit", "when", "by", "files", "names", "stored"]
    assert (newest.split()[0], oldest.split()[0]) == ("2", "1")
    assert newest.split()[4:7] == ["1", "+1", "-0"]
    assert all(len(line) <= 80 for line in (title, newest, oldest))
    (only,) = json.loads(call(home, "log", source, "--limit", 1, "--json").output)
    assert (only["seq"], only["files"], only["names_put"]) == (2, 1, 1)
    assert only["time"].endswith("+00:00")


def test_clients_are_named(home: Home, bucket: Path) -> None:
    """Nobody would know whose machine still writes to a bucket, or with which version."""
    source = f"file://{bucket}"
    call(home, "init", source)
    assert call(home, "clients", source).output == "no machine has saved anything yet\n"
    write(home, bucket, "one")
    title, line = call(home, "clients", source).output.splitlines()
    assert title.split() == ["client", "machine", "version", "heard", "of", "last"]
    (client,) = json.loads(call(home, "clients", source, "--json").output)
    assert line.startswith(client["client"][:8])
    assert client["host"] in line
    assert client["version"] in line
    assert (client["is_this"], client["problem"]) == (False, None)
    assert client["heard"] < client["lease_until"]


def test_a_client_that_cannot_be_read_is_named_all_the_same(home: Home, bucket: Path) -> None:
    """One machine with a newer version would hide all others."""
    source = f"file://{bucket}"
    write(home, bucket, "one")
    (record,) = (bucket / ".blobfs" / "clients").iterdir()
    record.with_name("00" * 16).write_bytes(b"{}")
    told = call(home, "clients", source).output
    assert record.name[:8] in told
    assert "00000000  ?" in told
    broken = json.loads(call(home, "clients", source, "--json").output)
    assert [each["problem"] is None for each in broken].count(False) == 1


def test_check_of_a_whole_volume(home: Home, bucket: Path) -> None:
    """The one question is whether all is well; the answer has to come first."""
    source = f"file://{bucket}"
    write(home, bucket, "one", "two")
    checked = call(home, "check", source)
    assert (checked.exit_code, checked.stderr) == (0, "")
    first, second, third = checked.output.splitlines()
    assert first == f"{source}: all is well"
    assert second.startswith("  2 commits, 2 packs of ")
    assert "2 files of 11.7 KiB" in second
    assert third == "  the bytes in the packs were not read: --read-data does that, too"
    assert "every byte of the packs was read" in call(home, "check", source, "--read-data").output
    document = json.loads(call(home, "check", source, "--json").output)
    assert (document["commits"], document["damages"], document["repaired_to"]) == (2, [], None)


def test_check_tells_what_is_on_this_machine_alone(home: Home, bucket: Path) -> None:
    """Nobody would know whether a machine may be wiped without mounting first."""
    source = f"file://{bucket}"
    write(home, bucket, "one")

    kept = state_root(home.environ) / parse_source(source).state_id
    kept.mkdir(parents=True)
    (home.root / "here").mkdir()
    (home.root / "here" / "state").symlink_to(kept)

    async def work(*names: str) -> None:
        opened = await open_store(parse_source(source), StoreOptions(), Env())
        async with opened_place(opened.store, home.root / "here") as place:
            for name in names:
                await place.write(name, b"unsaved" * 100)

    trio.run(work)
    assert "  all that was done on this machine is saved" in call(home, "check", source).output
    trio.run(work, "two", "three")
    checked = call(home, "check", source)
    assert checked.exit_code == 0
    assert checked.output.splitlines()[-3:] == [
        "  3 files and folders, 1.4 KiB, are on this machine alone:",
        "    ., two, three",
        "    mounting the volume saves what can be read of it",
    ]
    unsaved = json.loads(call(home, "check", source, "--json").output)["unsaved"]
    assert (unsaved["paths"], unsaved["bytes"], unsaved["commit"]) == (
        [".", "two", "three"],
        1400,
        None,
    )


def test_check_tells_of_checkpoints(home: Home, bucket: Path) -> None:
    """Whoever makes a damaged machine's tree anew could not tell from what it was made."""
    write(home, bucket, "one", "two")

    async def write_checkpoint() -> None:
        opened = await open_store(parse_source(f"file://{bucket}"), StoreOptions(), Env())
        async with opened_place(opened.store, home.root / "elsewhere") as place:
            me = ClientId(bytes(16))
            sizes = CheckpointSizes()
            await CheckpointWriter(opened.store, place.engine.tree, Env(), me, sizes).write()

    trio.run(write_checkpoint)
    source = f"file://{bucket}"
    assert "  1 checkpoint to begin reading from" in call(home, "check", source).output
    rebuilt = call(home, "check", source, "--rebuild")
    assert rebuilt.exit_code == 0
    assert rebuilt.output.splitlines()[-2:] == [
        "  this machine's tree was made anew: it is at commit 2",
        "  it began from the checkpoint of commit 2",
    ]
    document = json.loads(call(home, "check", source, "--rebuild", "--json").output)
    assert (document["checkpoints"], document["repaired_to"], document["repaired_from"]) == (
        1,
        2,
        2,
    )


def test_check_names_what_is_damaged(home: Home, bucket: Path) -> None:
    """A script would go on, and nobody know which files to bring back."""
    source = f"file://{bucket}"
    write(home, bucket, "one", "two")
    pack = next((bucket / ".blobfs" / "packs").glob("*/*"))
    pack.unlink()
    checked = call(home, "check", source)
    assert checked.exit_code == 9
    lines = checked.output.splitlines()
    assert lines[0] == f"{source}: 1 damage"
    assert lines[3] == f"  damaged: {pack.relative_to(bucket)}"
    assert lines[4] == "           it is missing"
    assert lines[5] in ("           1 file needs it: one", "           1 file needs it: two")
    document = json.loads(call(home, "check", source, "--json").output)
    assert document["damages"][0]["file_count"] == 1


def test_check_of_a_bucket_that_lost_its_mark(home: Home, bucket: Path) -> None:
    """Damage would have the exit code of a network that is down."""
    write(home, bucket, "one")
    (bucket / ".blobfs" / "volume").unlink()
    checked = call(home, "check", f"file://{bucket}")
    assert checked.exit_code == 9
    assert "lost one of its marks" in checked.stderr


def test_rebuild_makes_what_was_lost(home: Home, bucket: Path) -> None:
    """After the loss of a disk, the first mount would be the test."""
    source = f"file://{bucket}"
    write(home, bucket, "one")
    rebuilt = call(home, "check", source, "--rebuild")
    assert rebuilt.exit_code == 0
    assert "  this machine's tree was made anew: it is at commit 1" in rebuilt.output
    checked = call(home, "check", source)
    assert "  compared with what this machine keeps" in checked.output
    both = call(home, "check", source, "--rebuild", "--repair")
    assert both.exit_code == 2


@pytest.mark.parametrize("command", ["log", "check"])
def test_which_volume_has_to_be_said(home: Home, command: str) -> None:
    """A command would guess, or fail without a word on how to go on."""
    unsaid = call(home, command)
    assert unsaid.exit_code == 2
    assert unsaid.stderr.splitlines() == [
        "blobfs: nothing is mounted, so say which volume",
        "hint: name a mountpoint, or a source: s3://...",
    ]
    nothing = call(home, command, f"file://{home.mountpoint}")
    assert nothing.exit_code == 3
    assert "there is no volume" in nothing.stderr
    assert call(home, command, home.mountpoint).exit_code == 2  # a folder, and not mounted

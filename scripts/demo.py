"""Show in a minute what blobfs does, on a folder that plays the bucket.

Every command that is printed is run as printed, and what it shows is compared with what
lies in the bucket: the exit code is 1 when something does not match. All of it happens in
a temporary folder, which is gone at the end, whatever happens.
"""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WIDTH = 80
SEED = 7
LETTERS, PHOTOS_A_YEAR = 200, 12
PHOTO_BYTES = 256 * 1024
VIDEO_BYTES = 64 * 1024 * 1024
MOST_FETCHED_BYTES = 1024 * 1024
COMMAND_WITHIN_S = 60
WORDS = ("sea", "was", "calm", "we", "walked", "the", "shore", "until", "evening", "came", "home")


class DemoFailed(Exception):
    """A command failed, or what it showed is not what lies in the bucket."""


class Stage:
    """A folder to act in, with a `blobfs` that knows nothing of the user's own mounts."""

    def __init__(self, root: Path) -> None:
        self.bucket = root / "bucket"
        self.data = root / "data"
        self._root = root
        runtime = root / "run"
        for folder in (self.bucket, self.data, runtime):
            folder.mkdir(mode=0o700)
        kinds = ("STATE", "CACHE", "CONFIG")
        homes = {f"XDG_{kind}_HOME": str(root / kind.lower()) for kind in kinds}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._env = {**os.environ, **homes, "XDG_RUNTIME_DIR": str(runtime), "PATH": path}

    def show(self, command: str) -> str:
        """Print a shell command, run it, print what it says, and return that.

        Raises:
            DemoFailed: it failed.
        """
        print(f"\n  $ {command}", flush=True)
        said = self.run(command)
        shown = said.replace(str(self._root), "$PWD")
        print(textwrap.indent(shown, "    "), end="", flush=True)
        return said

    def run(self, command: str) -> str:
        """Run a shell command and return what it says.

        Raises:
            DemoFailed: it failed.
        """
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self._root,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_WITHIN_S,
            check=False,
        )
        if done.returncode != 0:
            raise DemoFailed(f"`{command}` ended with {done.returncode}: {done.stdout.strip()}")
        return done.stdout

    def fetched_bytes(self) -> int:
        """Return how much came out of the bucket so far."""
        status = json.loads(self.run("blobfs status data --json"))
        return int(status["mounts"][0]["store"]["bytes_received"])

    def compare(self, command: str) -> None:
        """Check that `command` says the same of the mount and of the bucket itself.

        Raises:
            DemoFailed: it does not.
        """
        if self.run(command) != self.run(command.replace("data", "bucket")):
            raise DemoFailed(f"the mount and the bucket differ: `{command}`")


@contextmanager
def open_stage() -> Iterator[Stage]:
    """Make a stage; at the end unmount what is still mounted, and remove everything."""
    root = Path(tempfile.mkdtemp(prefix="blobfs-demo-")).resolve()
    stage = Stage(root)
    try:
        yield stage
    finally:
        if stage.data.is_mount():
            with contextlib.suppress(DemoFailed, subprocess.TimeoutExpired):
                stage.run("blobfs unmount --force data || fusermount3 -u -z data")
        # A mount that would not go must not have its bucket deleted through it.
        if not stage.data.is_mount():
            shutil.rmtree(root)


def say(text: str) -> None:
    """Print a paragraph between two commands."""
    print("\n" + textwrap.fill(text, WIDTH), flush=True)


def fill(bucket: Path) -> None:
    """Put letters, photos and one big video into the bucket; the same ones every time."""
    chance = random.Random(SEED)
    _make(bucket / "README.txt", b"Our family archive: letters, photos, one video.\n")
    for number in range(LETTERS):
        words = chance.choices(WORDS, k=60) + ["lighthouse"] * (number % 67 == 0)
        _make(bucket / f"letters/{number:03}.txt", textwrap.fill(" ".join(words)).encode() + b"\n")
    for year in (2024, 2025):
        for number in range(PHOTOS_A_YEAR):
            _make(bucket / f"photos/{year}/{number:02}.jpg", chance.randbytes(PHOTO_BYTES))
    _make(bucket / "videos/holiday.mp4", chance.randbytes(VIDEO_BYTES))


def mount(stage: Stage) -> None:
    """Mount the bucket and show that nothing was downloaded."""
    say("The folder `bucket` plays the bucket; s3://name or az://name work the same way.")
    stage.show("du -sh bucket")
    say("Mount it. From now on `data` shows what is in the bucket ...")
    stage.show("blobfs mount file://$PWD/bucket data --read-only")
    say("... and nothing of it has been downloaded:")
    stage.show("blobfs status data")
    _check_fetched(stage.fetched_bytes(), 0)


def use_any_program(stage: Stage) -> None:
    """Show that ordinary programs work on the mount, and see what is in the bucket."""
    say("Folders are listed when somebody looks. That fetches names, not contents:")
    stage.show("ls -l data data/photos")
    stage.compare("cd data && find . -type f -printf '%P %s\\n' | sort")
    _check_fetched(stage.fetched_bytes(), 0)
    say("Any program reads the files. What it reads is fetched, and nothing else:")
    stage.show("cat data/README.txt")
    stage.show("head -n 3 data/letters/000.txt")
    stage.show("grep -rl lighthouse data/letters | sort")
    stage.compare("cd data && grep -r lighthouse letters | sort")
    stage.show(
        "cp data/photos/2025/03.jpg . && cmp 03.jpg bucket/photos/2025/03.jpg && ls -l *.jpg"
    )


def read_the_middle(stage: Stage) -> None:
    """Read 4 KiB of the big file, and show how little that fetched."""
    say("Now 4 KiB from the middle of the video of 64 MiB, as a player does that skips:")
    before = stage.fetched_bytes()
    command = "dd if=data/videos/holiday.mp4 bs=4k skip=8192 count=1 status=none | sha256sum"
    stage.show(command)
    fetched = stage.fetched_bytes() - before
    say(f"For that, {fetched // 1024} KiB of the 65536 KiB were fetched.")
    _check_fetched(fetched, MOST_FETCHED_BYTES)
    stage.compare(command)
    say("What was read stays in a cache on disk, also after the mount has gone:")
    stage.show("blobfs status data")


def unmount(stage: Stage) -> None:
    """Unmount, and show that the directory is empty again."""
    say("Unmount. The directory is empty again, the bucket was never written to.")
    stage.show("blobfs unmount data")
    if any(stage.data.iterdir()):
        raise DemoFailed("something is left in the directory after `blobfs unmount`")


def write(stage: Stage) -> None:
    """Change something with ordinary programs, and find it again as another machine would."""
    say(
        "Mounted for writing, it takes what any program writes: on this machine's disk at once, "
        "in the bucket moments later. `sync` waits for that."
    )
    stage.show("blobfs mount file://$PWD/bucket data")
    stage.show("mkdir data/notes && cp data/letters/067.txt data/notes/copy.txt")
    stage.show("mv data/notes/copy.txt data/notes/lighthouse.txt")
    stage.show("blobfs sync data")
    stage.show("blobfs log data")
    stage.show("blobfs unmount data")
    say("Another machine, which has never seen the bucket, finds the same:")
    elsewhere = "--state-dir $PWD/far/state --cache-dir $PWD/far/cache"
    stage.show(f"blobfs mount file://$PWD/bucket data {elsewhere}")
    stage.show("ls data data/notes")
    stage.run("cmp data/notes/lighthouse.txt bucket/letters/067.txt")
    stage.show("blobfs check data")
    stage.show("blobfs unmount data")


def main() -> int:
    """Play all of it; return 1 when something went wrong."""
    try:
        with open_stage() as stage:
            fill(stage.bucket)
            for act in (mount, use_any_program, read_the_middle, unmount, write):
                act(stage)
    except (DemoFailed, subprocess.TimeoutExpired) as error:
        print(f"\ndemo failed: {error}", file=sys.stderr)
        return 1
    say("That is all. `blobfs mount --help` tells how to mount a bucket of yours.")
    return 0


def _make(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def _check_fetched(fetched_bytes: int, most_bytes: int) -> None:
    if fetched_bytes > most_bytes:
        raise DemoFailed(f"too much was fetched. bytes={fetched_bytes} most={most_bytes}")


if __name__ == "__main__":
    sys.exit(main())

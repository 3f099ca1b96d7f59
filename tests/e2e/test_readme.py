"""The sessions in the README work, command by command."""

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.cli import Home
from tests.servers import S3Server

pytestmark = [pytest.mark.mount, pytest.mark.server, pytest.mark.slow]

README = Path(__file__).parents[2] / "README.md"
SCAN_BYTES = 200 * 1024 * 1024


def commands(heading: str) -> list[str]:
    """Return the commands of the README's session below a heading."""
    found = re.search(rf"## {heading}\n.*?```console\n(.*?)```", README.read_text(), re.DOTALL)
    assert found is not None
    typed = [line[2:] for line in found[1].splitlines() if line.startswith("$ ")]
    assert len(typed) >= 5
    return typed


def run(home: Home, typed: list[str], *before: str) -> str:
    """Type commands into a shell; return what they said."""
    env = {**home.env, "PATH": f"{Path(sys.executable).parent}:{home.env['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", "\n".join(["set -e", *before, *typed])],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


def home_of(folder: Path, server: S3Server) -> Home:
    return Home(folder, {**server.environment(), "AWS_ENDPOINT_URL": server.endpoint_url})


def fill(server: S3Server, bucket: str) -> None:
    client = server.client()
    for year in (2024, 2025):
        for month in range(1, 13):
            rows = [
                f"{year}-{month:02}-{day:02},{station},20.5"
                for day in range(1, 29)
                for station in range(1000, 1400)
            ]
            client.put_object(
                Bucket=bucket, Key=f"{year}/{month:02}.csv", Body="\n".join(rows).encode()
            )
    client.put_object(Bucket=bucket, Key="README.txt", Body=b"x" * 63)
    client.put_object(Bucket=bucket, Key="radar/scan-2025.bin", Body=bytes(SCAN_BYTES))


def test_the_session_of_reading_works(tmp_path: Path, s3_server: S3Server) -> None:
    """A README whose first commands fail is the last page that somebody reads."""
    bucket = s3_server.make_bucket()
    fill(s3_server, bucket)
    home = home_of(tmp_path, s3_server)
    typed = [each.replace("weather-archive", bucket) for each in commands("Reading what is there")]
    said = run(home, typed, "mkdir -p ~/weather")
    weather = Path(home.env["HOME"]) / "weather"
    assert f"mounted s3://{bucket} on {weather} (read-only)" in said
    assert f"{weather}/2025/01.csv:28" in said
    assert f"unmounted {weather}" in said
    fetched = re.search(r"traffic +([\d.]+) (\w+) fetched", said)
    assert fetched is not None
    assert fetched[2] == "MiB"
    assert float(fetched[1]) < 10  # of over 200
    assert not weather.is_mount()


def test_the_session_of_writing_works(tmp_path: Path, s3_server: S3Server) -> None:
    """The first thing that somebody saves would not be saved."""
    bucket = s3_server.make_bucket()
    home = home_of(tmp_path, s3_server)
    pictures = Path(home.env["HOME"]) / "pictures"
    pictures.mkdir()
    for number in range(3):
        (pictures / f"fell-{number}.jpg").write_bytes(random.Random(number).randbytes(2 << 20))
    typed = [each.replace("field-notes", bucket) for each in commands("Writing")]
    said = run(home, typed, "mkdir -p ~/notes")
    assert "/notes: saved " in said
    assert re.search(r"^     1  .* {2}4 +\+5 -0 +6\.0 MiB$", said, re.MULTILINE)
    assert f"s3://{bucket}: all is well" in said
    assert "2 commits, 1 pack of 6.0 MiB, 4 files of 6.0 MiB" in said
    assert "unsaved: " not in said.rpartition("unmounted")[2]


def test_the_session_of_two_works(tmp_path: Path) -> None:
    """What is said of conflicts would be something else than what happens."""
    (tmp_path / "bucket").mkdir()
    source = f"file://{tmp_path}/bucket"
    homes = {name: Home(tmp_path / name, {}) for name in ("ada", "bo")}
    found = re.search(r"## With others\n.*?```console\n(.*?)```", README.read_text(), re.DOTALL)
    assert found is not None
    run(homes["ada"], ["mkdir ~/notes", f"blobfs init {source}", f"blobfs mount {source} ~/notes"])
    run(homes["ada"], ["echo plan > ~/notes/plan.txt", "blobfs sync ~/notes"])
    run(homes["bo"], ["mkdir ~/notes", f"blobfs mount {source} ~/notes"])
    said = ""
    for line in found[1].splitlines():
        who, prompt, typed = line.partition("$ ")
        if prompt and who in homes:
            said = run(homes[who], [typed])
    assert re.search(r"plan \(conflict .*\).txt:snow: ", said)
    assert {"none", "3 m"} == set(re.findall(r":snow: (.*)", said))
    for home in homes.values():
        run(home, ["blobfs unmount ~/notes"])

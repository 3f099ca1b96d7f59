"""The session in the README works, command by command."""

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


def session() -> str:
    """Return what stands in the README's session, commands and answers."""
    found = re.search(r"```console\n(.*?)```", README.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


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


def test_the_session_works(tmp_path: Path, s3_server: S3Server) -> None:
    """A README whose first commands fail is the last page that somebody reads."""
    bucket = s3_server.make_bucket()
    fill(s3_server, bucket)
    commands = [line[2:] for line in session().splitlines() if line.startswith("$ ")]
    assert len(commands) >= 5
    variables = {**s3_server.environment(), "AWS_ENDPOINT_URL": s3_server.endpoint_url}
    home = Home(tmp_path, variables)
    env = {**home.env, "PATH": f"{Path(sys.executable).parent}:{home.env['PATH']}"}
    script = "\n".join(["set -e", "mkdir -p ~/weather", *commands])
    done = subprocess.run(
        ["bash", "-c", script.replace("weather-archive", bucket)],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    weather = Path(env["HOME"]) / "weather"
    assert f"mounted s3://{bucket} on {weather} (read-only)" in done.stdout
    assert f"{weather}/2025/01.csv:28" in done.stdout
    assert f"unmounted {weather}" in done.stdout
    fetched = re.search(r"traffic +([\d.]+) (\w+) fetched", done.stdout)
    assert fetched is not None
    assert fetched[2] == "MiB"
    assert float(fetched[1]) < 10  # of over 200
    assert not weather.is_mount()

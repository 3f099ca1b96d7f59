"""sqlite3 on a mount: what it called committed is there, whoever is killed or writes, too."""

import contextlib
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.e2e.cli import Home
from tests.e2e.programs import PATIENCE_S, at_once, volume

pytestmark = [pytest.mark.mount, pytest.mark.slow]

TABLE = """
create table if not exists numbers (number integer primary key, text text not null, bytes blob);
create index if not exists by_text on numbers (text);
"""
COUNT_FOR_EVER = """
import sqlite3, sys
path, mode = sys.argv[1:]
database = sqlite3.connect(path, timeout=60)
database.execute(f"pragma journal_mode = {mode}")
database.execute("pragma synchronous = full")
(number,) = database.execute("select coalesce(max(number), 0) from numbers").fetchone()
while True:
    with database:
        for number in range(number + 1, number + 21):
            values = (number, f"text {number * 7919 % 1000}", bytes(number % 5000))
            database.execute("insert into numbers values (?, ?, ?)", values)
        database.execute("update numbers set text = text || '.' where number % 17 = 3")
    print(number, flush=True)
"""


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_database_survives_a_killed_daemon(home: Home, source: str, mode: str) -> None:
    """Transactions that were committed are there, others are not, whenever the daemon died."""
    with volume(home, source) as folder:
        path = folder / "numbers.db"
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.executescript(TABLE)
        for transactions in (1, 15):
            committed = count_until_killed(home, path, mode, transactions)
            mount_again(home, source, folder)
            with contextlib.closing(sqlite3.connect(path)) as database:
                assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
                found = database.execute("select count(*), max(number) from numbers").fetchone()
                assert found[0] == found[1]
                assert committed <= found[1] <= committed + 20


def mount_again(home: Home, source: str, folder: Path) -> None:
    """Do what blobfs says when the daemon of a mount was killed."""
    refused = home.run("mount", source, folder, check=False)
    assert "a dead mount is in the way" in refused.stderr
    assert f"blobfs unmount {folder}" in refused.stderr
    home.run("unmount", folder)
    home.run("mount", source, folder, "--read-write")


def count_until_killed(home: Home, path: Path, mode: str, transactions: int) -> int:
    """Kill the daemon after so many transactions, in the middle of another.

    Return the last number that the writing program was told is in.
    """
    with subprocess.Popen(
        [sys.executable, "-c", COUNT_FOR_EVER, str(path), mode],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        numbers = [int(writer.stdout.readline()) for _ in range(transactions)]
        home.kill_daemon()
        rest, errors = writer.communicate(timeout=PATIENCE_S)
    assert "sqlite3" in errors  # it noticed, instead of going on with nothing below it
    return [*numbers, *map(int, rest.split())][-1]


def test_two_programs_share_a_database(folder: Path) -> None:
    """Locks between processes are what keeps a database whole."""
    path = folder / "shared.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("create table counter (value integer)")
        with database:
            database.execute("insert into counter values (0)")
    count = textwrap.dedent(
        """
        import sqlite3, sys
        database = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
        for _ in range(100):
            database.execute("begin immediate")
            (value,) = database.execute("select value from counter").fetchone()
            database.execute("update counter set value = ?", [value + 1])
            database.execute("commit")
        """
    )
    at_once([sys.executable, "-c", count, path], [sys.executable, "-c", count, path])
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("select value from counter").fetchone() == (200,)

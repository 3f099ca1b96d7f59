"""Give tests a user of their own, and a writable folder of theirs on a mount."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli import Home
from tests.e2e.programs import volume


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, {})


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "bucket").mkdir()
    return f"file://{tmp_path}/bucket"


@pytest.fixture
def folder(home: Home, source: str) -> Iterator[Path]:
    with volume(home, source) as mountpoint:
        yield mountpoint

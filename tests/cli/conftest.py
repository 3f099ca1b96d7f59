"""Fixtures of tests that start daemons."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mountd.home import Home, make_home


@pytest.fixture
def home() -> Iterator[Home]:
    made = make_home()
    yield made
    made.clear()


@pytest.fixture
def bucket(home: Home) -> Path:
    """A folder that plays the bucket."""
    folder = home.root / "bucket"
    folder.mkdir()
    return folder

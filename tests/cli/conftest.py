"""Fixtures of tests that start daemons."""

from collections.abc import Iterator

import pytest

from tests.mountd.home import Home, make_home


@pytest.fixture
def home() -> Iterator[Home]:
    made = make_home()
    yield made
    made.clear()

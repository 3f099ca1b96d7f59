"""Share the fixture for tests that open many volumes."""

from tests.sync.conftest import quick_path

__all__ = ["quick_path"]

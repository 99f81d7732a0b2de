"""Fixtures of the collector's tests."""

from __future__ import annotations

import pytest

from tests.tasks.collecting import a_folder


@pytest.fixture
def frames(tmp_path):
    """A folder of 40 different pictures, JPEG and PNG."""
    return a_folder(tmp_path / "frames", 40)

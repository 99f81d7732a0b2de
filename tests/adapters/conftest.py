"""What several tests of adapters share."""

from __future__ import annotations

import os

import pytest

from tasks.adapters import review
from tasks.adapters.review import mongod


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    """The URI of a review database. FiftyOne serves one a process, so whoever asks for one in any folder gets this."""
    if given := mongod.operators_own_uri():
        yield given
        return
    folder = tmp_path_factory.mktemp("review")
    uri = review.ensure_database(folder)
    del os.environ[mongod.FOLDER_VARIABLE]  # from here on it counts as configured
    yield uri
    del os.environ[mongod.URI_VARIABLE]
    review.stop_database(folder)

"""An empty read side for each test, and somebody to look into it."""

from collections.abc import Iterator

import pytest

from tests.integration.db.support import Inspector


@pytest.fixture
def database(mysql_url: str) -> Iterator[Inspector]:
    inspector = Inspector(mysql_url)
    inspector.clear()
    yield inspector
    inspector.close()

"""A connection to a real node, empty for each test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

import rsqlite
from rsqlite.testing.process import ProcessNode


@pytest.fixture
def db(rsqlite_node: ProcessNode) -> Iterator[rsqlite.Connection]:
    with closing(rsqlite.connect(rsqlite_node.url)) as connection:
        yield connection

"""The fixtures that tangled-pyrqlite's tests ask for, and that its source distribution lacks.

Copied beside those tests as their conftest.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import rqlite

PORT = 4001
"""Rewritten like every other 4001 of the suite."""


@pytest.fixture
def connection() -> Iterator[Any]:
    connection = rqlite.connect(host="localhost", port=PORT)
    yield connection
    connection.close()


@pytest.fixture
def cursor(connection: Any) -> Iterator[Any]:
    cursor = connection.cursor()
    yield cursor
    cursor.close()


@pytest.fixture
def users_table(connection: Any) -> Iterator[None]:
    cursor = connection.cursor()
    cursor.execute("DROP TABLE IF EXISTS users")
    cursor.execute(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT, age INTEGER)"
    )
    connection.commit()
    yield
    cursor.execute("DROP TABLE users")
    connection.commit()

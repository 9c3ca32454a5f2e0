"""A leader and its replica for the tests of this floor."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.statemachine.lab import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    with tempfile.TemporaryDirectory(prefix="rsqlite-lab-") as directory:
        one = Lab(Path(directory))
        yield one
        one.close()

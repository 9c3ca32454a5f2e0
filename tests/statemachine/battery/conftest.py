"""Where the battery's databases lie."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory in memory where the system has one: the battery is not about syncs."""
    memory = "/dev/shm"
    base = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="rsqlite-battery-", dir=base) as path:
        yield Path(path)

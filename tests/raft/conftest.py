"""Options and switches for the tests of the core."""

from __future__ import annotations

import pytest

from rsqlite.raft.core import Raft


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite",
        action="store_true",
        help="write what the scripts in tests/raft/scripts give now into their golden parts",
    )


@pytest.fixture(autouse=True)
def every_invariant_on_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run with the full checks of `invariants.py`."""
    monkeypatch.setattr(Raft, "checks_every_step", True)

"""What is set for the whole process."""

from __future__ import annotations

import gc
import resource
import weakref

import pytest

from rsqlite.cli.process import allow_connections, calm_collector
from rsqlite.config import Settings


class Life:
    itself: Life


def test_what_an_earlier_life_has_left_is_collected() -> None:
    thresholds = gc.get_threshold()
    life = Life()
    life.itself = life
    seen = weakref.ref(life)
    try:
        calm_collector()
        del life
        calm_collector()
        assert seen() is None
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)


@pytest.mark.parametrize(
    ("hard", "http", "peers"),
    [(100_000, 4096, 256), (4096, 3584, 256), (400, 72, 72), (100, 8, 8)],
)
def test_fewer_connections_are_taken_where_fewer_files_may_be_open(
    monkeypatch: pytest.MonkeyPatch, hard: int, http: int, peers: int
) -> None:
    """Connections took what the database's files need, and a long read ended the node."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    settings = allow_connections(Settings())
    assert (settings.connections_max, settings.peer_connections_max) == (http, peers)

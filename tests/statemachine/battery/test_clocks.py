"""The time in the log: it never runs backwards, whatever leaders' clocks say, and it is UTC,
whatever time zone the process has."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rsqlite.request import Outcome, Rows
from tests.statemachine.battery.content import difference
from tests.statemachine.battery.model import ask
from tests.statemachine.battery.world import Way, World

HOUR_S = 3600.0
TABLE = ask("CREATE TABLE at(id INTEGER PRIMARY KEY, t DEFAULT (julianday('now')), u)")
PUT = ask("INSERT INTO at(u) VALUES(unixepoch('subsec'))")
BACKWARDS = ask("SELECT count(*) FROM at a JOIN at b ON b.id > a.id WHERE b.t < a.t OR b.u < a.u")


def rows(world: World, one: object) -> list[tuple[object, ...]]:
    """The rows of the only statement of a request."""
    (answer,), _ = world.ask([one])  # type: ignore[list-item]
    assert isinstance(answer, Outcome)
    (result,) = answer.results
    assert isinstance(result, Rows), result
    return result.rows


@pytest.fixture
def zone() -> Iterator[None]:
    """The process runs in New York, and is brought back."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "America/New_York"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.parametrize("moving", [False, True])
def test_time_never_runs_backwards(directory: Path, moving: bool) -> None:
    clock = [time.time()]
    world = World(directory, (Way.LEAD, Way.STEP, Way.RESTART), moving=moving)
    world.loop.wall = lambda: clock[0]  # type: ignore[method-assign]
    world.ask([TABLE])
    for change in (0.0, 0.5, -HOUR_S, -10.0, 2 * HOUR_S, -HOUR_S, 0.001):
        clock[0] += change
        world.ask([PUT, PUT])
    assert rows(world, ask("SELECT count(*), count(DISTINCT u) > 2 FROM at")) == [(14, 1)]
    assert rows(world, BACKWARDS) == [(0,)]
    first, *others = [node.content() for node in world.nodes]
    assert not any(difference(first, other) for other in others)
    world.close()


def test_a_restarted_leader_goes_on_from_the_newest_time_of_the_log(directory: Path) -> None:
    clock = [time.time()]
    world = World(directory, (Way.LEAD, Way.STEP))
    world.loop.wall = lambda: clock[0]  # type: ignore[method-assign]
    world.ask([TABLE])
    world.ask([PUT])
    for node in world.nodes:
        node.reopen()
    clock[0] -= HOUR_S
    world.ask([PUT])
    assert rows(world, BACKWARDS) == [(0,)]
    world.close()


@pytest.mark.usefixtures("zone")
def test_sql_is_in_utc_whatever_the_zone_of_the_process(directory: Path) -> None:
    world = World(directory, (Way.LEAD, Way.STEP))
    world.ask([ask("CREATE TABLE at(t, u)")])
    for _ in range(2):
        world.ask(
            [
                ask(
                    "INSERT INTO at VALUES(datetime('2024-07-01 12:00', 'localtime'),"
                    " datetime('2024-07-01 12:00', 'utc'))"
                )
            ]
        )
    expected = [("2024-07-01 12:00:00",) * 2] * 2
    assert rows(world, ask("SELECT t, u FROM at")) == expected
    near = ask("SELECT abs(unixepoch(datetime('now', 'localtime')) - unixepoch()) < 5")
    assert rows(world, near) == [(1,)]
    for answer in world.query(near):
        assert isinstance(answer, Outcome)
        assert isinstance(answer.results[0], Rows)
        assert answer.results[0].rows == [(1,)]
    world.close()

"""What a delay adds is told in round trips, and the goal is one for an insert."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.delay import DIRECT, GOAL_TRIPS, compared
from bench.generator import Measurement
from bench.workloads import workload_named

INSERT = workload_named("insert-1-leader")
THROUGH = workload_named("insert-1-follower")


def measurement(p50_ms: float) -> Measurement:
    return Measurement(1, 10, 1.0, p50_ms, 2.0, 3.0, 5.0, 20.0, 10)


def test_round_trips_are_what_is_added_to_the_same_round_without_delay() -> None:
    rows = compared(
        {
            (INSERT, 10.0): [measurement(12.0), measurement(23.0)],
            (INSERT, 0.0): [measurement(1.0), measurement(3.0)],
            (INSERT, DIRECT): [measurement(0.9), measurement(0.9)],
        }
    )
    assert [row.round_trip_ms for row in rows] == [DIRECT, 0.0, 10.0]
    assert [list(row.trips) for row in rows] == [[], [], [1.1, 2.0]]
    assert [row.as_json()["round_trip_ms"] for row in rows] == [None, 0.0, 10.0]


def test_only_inserts_through_the_leader_have_a_goal() -> None:
    slow = 10.0 * GOAL_TRIPS + 1
    found = {
        (INSERT, 0.0): [measurement(0.0)],
        (INSERT, 10.0): [measurement(slow)],
        (THROUGH, 0.0): [measurement(0.0)],
        (THROUGH, 10.0): [measurement(slow)],
    }
    assert [row.is_met for row in compared(found)] == [True, False, True, True]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_write_takes_the_round_trip_that_was_added_at_least(
    quick: Callable[..., dict[str, Any]],
) -> None:
    rows = quick("delay")["rows"]
    assert [row["round_trip_ms"] for row in rows] == [None, 0.0, 10.0]
    assert rows[-1]["p50_ms"][0] >= 10.0

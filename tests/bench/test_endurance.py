"""A long run is told interval by interval, and its rows are all there in the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.endurance import GOAL, Interval, Sample, kept, verdict, verify
from bench.generator import WrongAnswer, measure
from bench.harness import Target, call
from bench.slices import Slice
from bench.workloads import Inserts


def interval(per_second: int, seconds: float = 60.0) -> Interval:
    one = Slice(int(per_second * seconds), seconds, 1.0, 2.0, 3.0)
    return Interval(one, Sample([], 0, 0))


def test_the_last_minute_is_compared_with_the_second() -> None:
    assert kept([interval(9), interval(100), interval(50), interval(95)], 60.0) == 0.95
    assert kept([interval(9), interval(100)], 60.0) is None, "there is no last one"


def test_a_short_rest_at_the_end_is_no_minute() -> None:
    minutes = [interval(9), interval(100), interval(90)]
    assert kept([*minutes, interval(10, 29.0)], 60.0) == 0.9
    assert kept([*minutes, interval(10, 31.0)], 60.0) == 0.1


def test_a_throughput_that_fell_misses_the_goal() -> None:
    assert "met: yes" in verdict(GOAL)
    assert "met: NO" in verdict(GOAL - 0.01)
    assert "too short" in verdict(None)


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM bench_endurance WHERE id = 3",
        "UPDATE bench_endurance SET v = 'row 0000000001 abcdefghij' WHERE id = 3",
        "UPDATE bench_endurance SET v = replace(v, '2', '3') WHERE v LIKE 'row 0000000002%'",
    ],
)
def test_a_row_that_is_missing_or_another_one_is_noticed(
    server: Any, tmp_path: Path, damage: str
) -> None:
    create = "CREATE TABLE bench_endurance(id INTEGER PRIMARY KEY, v)"
    call(server.url, "/db/execute", [create])
    source = Inserts(server.url, "bench_endurance")
    measure(url=server.url, source=source, clients=2, requests=20)
    target = Target(server.url, None, tmp_path)
    verify(target, source.rows)
    call(server.url, "/db/execute", [damage])
    with pytest.raises(WrongAnswer):
        verify(target, source.rows)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_long_run_tells_what_the_nodes_hold_at_each_interval(
    quick: Callable[..., dict[str, Any]],
) -> None:
    intervals = quick("endurance")["intervals"]
    assert sum(one["rows"] for one in intervals) >= 2_000
    for one in intervals:
        assert len(one["nodes"]) == 3
        for node in one["nodes"]:
            assert node["memory_bytes"] > 10_000_000
            assert node["log_bytes"] > 0
            assert node["wal_bytes"] > 0

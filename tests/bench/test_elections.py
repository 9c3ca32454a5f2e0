"""The full load counts its writes, and the long UPDATE can be made long."""

from __future__ import annotations

from typing import Any

import pytest

from bench import elections
from bench.elections import COUNT_SQL, LOAD_ROWS, Updates, steps_per_second
from bench.generator import WrongAnswer, measure
from bench.harness import call


def make_table(server: Any) -> None:
    create = "CREATE TABLE bench_load(id INTEGER PRIMARY KEY, n INTEGER)"
    fill = (
        "WITH RECURSIVE c(x) AS (SELECT ? UNION ALL SELECT x+1 FROM c WHERE x < ?) "
        "INSERT INTO bench_load SELECT x, 0 FROM c"
    )
    call(server.url, "/db/execute", [create, [fill, LOAD_ROWS, 2 * LOAD_ROWS - 1]])


@pytest.mark.slow
def test_the_sum_of_the_table_is_the_number_of_acknowledged_updates(server: Any) -> None:
    make_table(server)
    done = measure(url=server.url, source=Updates(server.url), clients=4, seconds=0.2, warmup=0)
    (result,) = call(server.url, "/db/query", ["SELECT sum(n) FROM bench_load"])
    assert result["values"] == [[done.acknowledged]]


def test_an_update_of_no_row_ends_the_load(server: Any) -> None:
    call(server.url, "/db/execute", ["CREATE TABLE bench_load(id INTEGER PRIMARY KEY, n)"])
    with pytest.raises(WrongAnswer):
        measure(url=server.url, source=Updates(server.url), clients=2, seconds=0.2, warmup=0)


def test_the_long_update_counts_as_far_as_it_is_told(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (result,) = call(server.url, "/db/query", [f"SELECT {COUNT_SQL.format(steps=1000)}"])
    assert result["values"] == [[1000]]
    monkeypatch.setattr(elections, "CALIBRATION_STEPS", 10_000)
    assert steps_per_second() > 10_000

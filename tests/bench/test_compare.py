"""Ours and theirs are measured in turns, and compared within a round."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.compare import Row, turns
from bench.generator import Measurement
from bench.harness import call
from bench.workloads import workload_named
from rsqlite.testing.cluster import ProcessCluster


def measurements(*rates: int) -> list[Measurement]:
    return [Measurement(1, rate, 1.0, 1.0, 2.0, 3.0, 5.0, None, rate) for rate in rates]


def test_a_machine_that_gets_slower_gives_nobody_an_advantage() -> None:
    speed, ours, theirs = 8, [], []
    for number in range(2):
        for side in turns(number):
            (ours if side == "ours" else theirs).append(speed)
            speed -= 1
    row = Row(
        workload_named("insert-1-leader"), measurements(*ours), measurements(*theirs), at_least=1.0
    )
    assert row.ratios == [1.0, 1.0]
    assert turns(0)[0] != turns(1)[0]


def test_only_writes_have_a_goal() -> None:
    ours, theirs = measurements(150, 150), measurements(100, 100)
    write = Row(workload_named("insert-1-leader"), ours, theirs, at_least=2.0)
    assert write.ratios == [1.5]
    assert not write.is_met
    read = Row(workload_named("read-none-1-leader"), ours, theirs, at_least=2.0)
    assert read.is_met
    assert read.as_json()["goal"] is None


def test_a_wrong_answer_of_either_side_is_no_result(server: Any, capsys: Any) -> None:
    def repeated(path: str, answer: dict[str, Any]) -> dict[str, Any]:
        for result in answer["results"]:
            if "last_insert_id" in result:
                result["last_insert_id"] = 7
        return answer

    server.spoil = repeated
    sides = ["--url", server.url, "--ours", server.url]
    assert main(["compare", "--quick", *sides]) == 3
    assert "same last_insert_id" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_ours_is_compared_with_the_servers_at_a_url(
    quick: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory: Path = tmp_path_factory.mktemp("theirs")
    with ProcessCluster(1, directory) as cluster:
        node = cluster.nodes[0]
        figures = quick("compare", "--url", node.http_addr)
        tables = ["SELECT count(*) FROM sqlite_master WHERE name LIKE 'bench%'"]
        (left,) = call(node.http_url, "/db/query", tables)
        assert left["values"] == [[0]], "nothing stays in a database that is not ours"
    names = [row["workload"] for row in figures["rows"]]
    assert names == ["insert-16-leader", "read-none-16-leader"]
    for row in figures["rows"]:
        assert len(row["ours"]["p50_ms"]) == len(row["theirs"]["p50_ms"]) == 2
        assert row["ratio"][0] > 0

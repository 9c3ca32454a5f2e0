"""What the client costs is measured beside what it is compared with, and wrong answers count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

import rsqlite
from bench import client
from bench.client import (
    GOALS,
    MANY_ROWS,
    Found,
    Goal,
    Raw,
    check,
    many_rows_per_second,
    pair,
    prepare,
)
from bench.generator import WrongAnswer
from rsqlite.testing.process import ProcessNode
from tests.bench.test_harness import bench


def test_goals_say_in_which_direction() -> None:
    most, least = Goal("a", "raw", 1.3), Goal("b", "http", 10.0, is_at_most=False)
    assert (str(most), str(least)) == ("<= 1.3 x raw", ">= 10 x http")
    assert (most.is_met(1.3), most.is_met(1.31)) == (True, False)
    assert (least.is_met(10.0), least.is_met(9.9)) == (True, False)
    free = Goal("c", "raw", None)
    assert (str(free), free.is_met(99.0)) == ("", True)


def test_the_ratio_is_that_of_each_round() -> None:
    found = Found(Goal("a", "raw", 1.3))
    for figure, floor in ((10.0, 10.0), (26.0, 20.0), (60.0, 30.0)):
        found.add(figure, floor)
    assert found.ratios == [1.0, 1.3, 2.0]
    assert found.is_met
    assert found.as_json()["ratio_spread"] == [1.0, 2.0]
    console = Console(width=150)
    with console.capture() as capture:
        client.print_table(console, [found])
    assert "1.30 [1.00..2.00]" in capture.get()


def test_two_calls_take_turns() -> None:
    order: list[str] = []
    one_us, other_us = pair(lambda: order.append("a"), lambda: order.append("b"), 0.0)
    blocks = "".join(order).replace("a" * client.BLOCK, "A").replace("b" * client.BLOCK, "B")
    assert blocks == "AB" * (len(blocks) // 2)
    assert min(one_us, other_us) > 0.0


@pytest.mark.slow
def test_wrong_answers_are_no_figures(rsqlite_node: ProcessNode) -> None:
    with pytest.raises(WrongAnswer, match="instead of"):
        check([(1,)], [(2,)])
    db = rsqlite.connect(rsqlite_node.url)
    raw = Raw(rsqlite_node.url)
    prepare(db)
    raw.post("/db/query", "", client.READ)(1)
    with pytest.raises(WrongAnswer, match="answered 400"):
        raw.post("/db/query", "&freshness=soon", client.READ)(1)
    assert many_rows_per_second(db, 0.0) > 0.0
    db.execute("DELETE FROM bench_client_many WHERE id = 1")
    with pytest.raises(WrongAnswer, match=f"{2 * MANY_ROWS} rows were written"):
        many_rows_per_second(db, 0.0)
    raw.close()
    db.close()


@pytest.mark.slow
def test_a_run_ends_with_a_table_and_json(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = bench("client", "--rounds", "1", "--seconds", "0.1", "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(file.read_text())
    assert [one["name"] for one in figures["summary"]] == [goal.name for goal in GOALS]
    for one in figures["summary"]:
        assert one["ratio"] > 0
        assert one["name"] in done.stdout
    assert figures["machine"]["cores"]

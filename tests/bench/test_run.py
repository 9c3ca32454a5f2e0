"""`python -m bench` as a user runs it, against a server at a URL."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from bench.failover import probe_until_acknowledged
from bench.floors import EchoServer, fdatasync_ms, sqlite_rows_per_second
from bench.harness import call
from bench.workloads import Goal, all_workloads

ROOT = Path(__file__).resolve().parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.slow
def test_a_run_against_a_url_ends_with_a_table_and_json(server: Any, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = bench(
        *("--url", server.url, "--rounds", "1", "--seconds", "0.2", "--warmup", "0.1"),
        *("--only", "insert-1-leader", "--only", "bulk-1-*", "--only", "read-none-16-*"),
        *("--json", str(file)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(file.read_text())
    names = [one["workload"] for one in figures["summary"]]
    assert names == ["insert-1-leader", "bulk-1-leader", "read-none-16-leader"]
    for one in figures["summary"]:
        assert one["ratio"] > 0
        assert one["p50_ms"] > 0
        assert one["workload"] in done.stdout
    assert figures["machine"]["cores"]


@pytest.mark.slow
def test_a_run_with_wrong_answers_has_no_result(server: Any, tmp_path: Path) -> None:
    def one_more_row(path: str, answer: dict[str, Any]) -> dict[str, Any]:
        if path == "/db/query":
            answer["results"][0]["values"][0][0] += 1
        return answer

    server.spoil = one_more_row
    file = tmp_path / "figures.json"
    done = bench(
        *("--url", server.url, "--rounds", "1", "--seconds", "0.2", "--warmup", "0.1"),
        *("--only", "insert-1-leader", "--json", str(file)),
    )
    assert done.returncode == 3
    assert "rows were acknowledged" in done.stdout
    assert not file.exists()


def test_every_goal_of_the_project_has_a_workload() -> None:
    goals = {one.name: str(one.goal) for one in all_workloads() if one.is_required}
    assert goals == {
        "insert-1-leader": "<= 5 x fdatasync",
        "insert-16-leader": ">= 0.4 x echo",
        "insert-64-leader": ">= 1.25 x echo",
        "insert-256-leader": ">= 2 x echo",
        "bulk-1-leader": ">= 0.11 x sqlite",
        "bulk-16-leader": ">= 0.11 x sqlite",
        "read-none-64-leader": ">= 1.6 x echo",
        "read-linearizable-64-leader": ">= 1.4 x echo",
    }


def test_goals_know_their_direction() -> None:
    assert Goal("echo", "per_second", 2.0).is_met(2.0)
    assert not Goal("echo", "per_second", 2.0).is_met(1.9)
    assert Goal("fdatasync", "p50_ms", 5.0, is_at_most=True).is_met(5.0)
    assert not Goal("fdatasync", "p50_ms", 5.0, is_at_most=True).is_met(5.1)


@pytest.mark.slow
def test_the_floors_measure_something_and_leave_nothing(tmp_path: Path) -> None:
    with EchoServer() as echo:
        assert echo.measure(clients=2, seconds=0.2, warmup=0.1).per_second > 100
    assert 0 < fdatasync_ms(tmp_path, seconds=0.05) < 1000
    assert sqlite_rows_per_second(tmp_path, rows=1000) > 1000
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_failover_ends_with_the_first_acknowledged_write(server: Any) -> None:
    create = "CREATE TABLE failover(id INTEGER PRIMARY KEY, v TEXT)"
    call(server.url, "/db/execute", [create])

    def recover() -> None:
        server.status = 200

    def hit() -> None:
        server.status = 503
        threading.Timer(0.3, recover).start()

    nobody = "http://127.0.0.1:9"
    seconds = asyncio.run(probe_until_acknowledged([nobody, server.url], hit))
    assert 0.3 <= seconds < 3.0

"""`python -m bench` as a user runs it, against a server at a URL."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import harness
from bench.generator import WrongAnswer
from bench.harness import Target, call, counted, wait_everywhere

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
        for result in answer["results"]:
            if "count(DISTINCT v)" in result.get("columns", []):
                result["values"][0][0] += 1
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


def test_rows_are_waited_for_on_a_follower_that_is_not_ours(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "REPLICATION_PAUSE", 0.001)
    answered = iter([{"error": "no such table: t"}, {"values": [[4]]}])

    def late(path: str, answer: dict[str, Any]) -> dict[str, Any]:
        if (result := next(answered, None)) is not None:
            return {"results": [result]}
        return answer

    call(server.url, "/db/execute", ["CREATE TABLE t(v)", *["INSERT INTO t VALUES(1)"] * 5])
    server.spoil = late
    wait_everywhere(Target(server.url, server.url, tmp_path), "t", 5)
    assert next(answered, None) is None
    monkeypatch.setattr(harness, "REPLICATION_TIMEOUT", 0.0)
    with pytest.raises(WrongAnswer, match="must have 6 rows, and has 5"):
        wait_everywhere(Target(server.url, None, tmp_path), "t", 6)


def test_a_table_that_is_not_there_has_no_count_and_other_errors_are_errors(server: Any) -> None:
    server.spoil = lambda path, answer: {"results": [{"error": "no such table: t"}]}
    assert counted(server.url, "sqlite_master", "none") == -1
    server.spoil = lambda path, answer: {"results": [{"error": "disk I/O error"}]}
    with pytest.raises(WrongAnswer, match="disk I/O error"):
        counted(server.url, "sqlite_master", "none")

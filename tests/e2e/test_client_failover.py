"""The client's writer survives faults of the leader; the long run is a script of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.client_failover import Writer, problems_of, run


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_writer_survives_kills_and_pauses_of_the_leader(tmp_path: Path) -> None:
    found = run(tmp_path, kills=2, pauses=1, seed=3)
    assert found["problems"] == []
    assert found["acknowledged"] > 10


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda rows: rows.remove(1), "row 1 is lost"),
        (lambda rows: rows.append(1), "row 1 is there 2 times"),
        (lambda rows: rows.extend([3, 3]), "row 3 is there 2 times"),
        (lambda rows: rows.append(4), "row 4 is nobody's"),
    ],
)
def test_the_check_finds_what_is_wrong(change: Callable[[list[int]], None], problem: str) -> None:
    writer = Writer("http://nowhere", sure=[1, 2], maybe=[3])
    assert problems_of(writer, [1, 2]) == problems_of(writer, [1, 2, 3]) == []
    rows = [1, 2]
    change(rows)
    assert problems_of(writer, rows) == [problem]

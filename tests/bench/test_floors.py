"""The floors measure what they say, and leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.floors import EchoServer, fdatasync_ms, sqlite_rows_per_second


@pytest.mark.slow
def test_the_floors_measure_something_and_leave_nothing(tmp_path: Path) -> None:
    with EchoServer() as echo:
        assert echo.measure(clients=2, seconds=0.2, warmup=0.1).per_second > 100
    assert 0 < fdatasync_ms(tmp_path, seconds=0.05) < 1000
    assert sqlite_rows_per_second(tmp_path, rows=1000) > 1000
    assert list(tmp_path.iterdir()) == []

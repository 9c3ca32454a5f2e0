"""A clock that is far behind the log is told of, once."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.statemachine.lab import Lab

TEXT = "behind the time of the log"


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.levelname for record in caplog.records if TEXT in record.message]


def test_a_node_whose_clock_is_behind_says_so_once_and_when_it_is_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lab = Lab(tmp_path, clock_lag_max=5.0)
    with caplog.at_level(logging.INFO):
        lab.do("CREATE TABLE t(v)")
        lab.loop._wall_offset -= 4.0
        lab.do("INSERT INTO t VALUES(1)")
        assert told(caplog) == []
        lab.loop._wall_offset -= 60.0
        lab.do("INSERT INTO t VALUES(datetime('now'))")
        lab.do("INSERT INTO t VALUES(datetime('now'))")
        assert told(caplog) == ["WARNING"]
        assert len(lab.rows("SELECT DISTINCT v FROM t WHERE v > 1")) == 1
        lab.loop._wall_offset += 64.0
        lab.do("INSERT INTO t VALUES(1)")
        assert told(caplog) == ["WARNING", "INFO"]
    lab.close()


def test_a_follower_of_a_leader_from_the_future_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lab = Lab(tmp_path)
    lab.loop._wall_offset += 3600.0
    lab.do("CREATE TABLE t(v)")
    lab.loop._wall_offset -= 3600.0
    lab.replica.maintain()
    assert told(caplog) == ["WARNING"]
    assert caplog.records[-1].__dict__["seconds"] == 3600.0
    lab.close()

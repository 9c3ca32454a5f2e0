"""The time without writes ends with the first acknowledgement, and not before."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from rich.console import Console

from bench.failover import GOALS_S, probe_until_acknowledged, show
from bench.harness import call


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


def test_the_median_decides_whether_the_goal_is_met() -> None:
    console = Console(quiet=True)
    good = {signal: [0.1, goal, 60.0] for signal, goal in GOALS_S.items()}
    assert show(good, console)
    assert not show({**good, "SIGKILL": [0.1, GOALS_S["SIGKILL"] + 0.1, 0.9]}, console)

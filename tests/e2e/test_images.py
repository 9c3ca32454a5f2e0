"""The acceptance of images, once and small: the whole of it is `make accept RUN=images`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.e2e import tracing
from tests.e2e.images import kill_after_call, kill_in_next_life
from tests.e2e.left_behind import LeftBehind
from tests.e2e.load import median_rate, rates
from tests.e2e.relay import Relays

ROWS = 20_000


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif(not tracing.is_available(), reason="strace is not there")
def test_a_receiver_that_is_cut_off_and_killed_twice_comes_back_by_an_image_under_load(
    tmp_path: Path,
) -> None:
    chance = random.Random(1)
    scene = LeftBehind(tmp_path, rows=ROWS, row_bytes=300, chance=chance)
    try:
        with Relays() as relays:
            scene.use_relays(relays)
            scene.start()
            with scene.load(clients=2, pause_s=0.02):
                scene.leave_behind(rows=ROWS)
                is_cut = scene.relay_of(scene.leader()).cut("reset all", 2 << 20)
                call = kill_after_call(
                    scene, lambda it, _: it.startswith("rename(") and "CURRENT" in it
                )
                assert call == 'rename("db/CURRENT.new", "db/CURRENT")'
                assert is_cut.is_set()
                kill_in_next_life(scene, chance)
                scene.receiver.start()
                scene.wait_level()
                scene.check("after two kills")
            scene.finish(is_lean=False)
    finally:
        scene.cluster.close()
    assert scene.problems == []
    assert scene.acknowledged > 50


def test_rates_are_counted_in_whole_windows_of_a_second() -> None:
    times = [10.0, 10.2, 10.9, 11.5, 12.0, 12.1, 12.99, 13.2, 13.3]
    assert rates(times, 10.0, 13.5) == [3.0, 1.0, 3.0]
    assert median_rate(times, 10.0, 13.5) == 3.0
    assert rates(times, 13.0, 13.5) == []
    assert median_rate(times, 13.0, 13.5) == 0.0

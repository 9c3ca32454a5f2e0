"""Whole clusters under faults, and that a simulation finds what is planted in them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from rsqlite.node.engine import Engine
from rsqlite.request import Done, ReadLevel, Request, RequestKind
from rsqlite.testing.frail import FrailFile
from rsqlite.testing.simulate import main
from rsqlite.testing.simulator import simulation
from rsqlite.testing.workload import Wrong

MEMORY = Path("/dev/shm")
ROOT = MEMORY if MEMORY.is_dir() else None


@pytest.mark.parametrize("seed", range(1, 13))
def test_clusters_under_faults_keep_their_promises(seed: int) -> None:
    with simulation(seed, ROOT) as run:
        run.run(400)


def first_wrong(seeds: range, steps: int = 400) -> str:
    """What is wrong in the first run that is."""
    for seed in seeds:
        with simulation(seed, ROOT) as run:
            try:
                run.run(steps)
            except Wrong as wrong:
                return str(wrong)
    raise AssertionError("nothing was found")


def test_a_read_that_is_called_linearizable_and_is_not_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    submit = Engine.submit

    def submit_carelessly(self: Engine, request: Request, done: Done) -> None:
        if request.kind is RequestKind.QUERY:
            request.level, request.timeout_s = ReadLevel.NONE, 0.0
        submit(self, request, done)

    monkeypatch.setattr(Engine, "submit", submit_carelessly)
    assert "counter" in first_wrong(range(1, 20))


def test_a_log_that_is_not_synced_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FrailFile, "sync", lambda self: None)
    assert first_wrong(range(1, 40))


def test_the_same_seed_gives_the_same_trace() -> None:
    traces = []
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "rsqlite.testing.simulate"),
                *("--seeds", "8", "--steps", "300", "--trace"),
            ],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        traces.append([line for line in done.stdout.splitlines() if " runs, " not in line])
    assert traces[0] == traces[1]
    assert len(traces[0]) > 50


def test_a_run_that_is_wrong_says_how_to_repeat_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "submit", lambda self, request, done: None)
    done = CliRunner().invoke(main, ["--seed", "1", "--steps", "1"])
    assert done.exit_code == 1
    assert "--seed 1 --steps 1" in done.output

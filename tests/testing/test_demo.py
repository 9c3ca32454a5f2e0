"""The demo says by its exit code whether everything held."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from rsqlite.testing import demo
from rsqlite.testing.cluster import ClusterError, ProcessCluster


@pytest.mark.slow
def test_the_demo_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "everything held"
    assert len(lines) == 18
    assert all(" ok" in line for line in lines[:-1])


def test_a_step_that_does_not_hold_makes_it_fail(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: ProcessCluster, timeout_s: float = 0) -> None:
        raise ClusterError("no node came up")

    monkeypatch.setattr(ProcessCluster, "start", start)
    assert demo.main() == 1
    assert "FAILED: no node came up" in capsys.readouterr().err


def test_the_demo_installs_what_rsqlite_needs_and_says_so(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("NOT RUN: make is not on this machine")
    shown = subprocess.run(
        ["make", "--dry-run", f"VENV={tmp_path}/venv", "demo"],
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "pip install" in shown
    assert "dev" not in shown.partition("pip install")[2].partition("\n")[0]
    assert shown.count("pip install") == 1
    assert f"into {tmp_path}/venv" in shown.partition("pip install")[0]

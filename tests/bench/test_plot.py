"""A plot is drawn as PNG and SVG, always in the same way, and says on what it was measured."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.plot import footer

FIGURES: dict[str, Any] = {
    "kind": "failover",
    "command": ["python", "-m", "bench", "failover"],
    "machine": {
        "processor": "A Processor",
        "cores": 2,
        "system": "Linux 6.0",
        "python": "3.11.7",
        "packages": {"aiohttp": "3.14", "uvloop": None},
    },
    "load_before": 0.25,
    "sync": "fdatasync on a majority",
    "SIGKILL": {"seconds": [0.2, 0.3, 0.5], "median": 0.3, "goal": 0.7},
    "SIGSTOP": {"seconds": [0.6, 0.7, 0.8], "median": 0.7, "goal": 1.5},
}


def test_the_machine_and_the_sync_mode_are_on_every_plot() -> None:
    text = footer(FIGURES)
    for word in ("A Processor", "2 cores", "Linux 6.0", "load before the run 0.25"):
        assert word in text
    assert "sync: fdatasync on a majority" in text
    assert "uvloop" not in text, "it is not installed there"
    assert "ours: another" in footer({**FIGURES, "ours_sync": "another"})


@pytest.mark.slow
def test_the_same_figures_give_the_same_files(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    file.write_text(json.dumps(FIGURES))
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        assert main(["plot", str(file), "--output", str(folder)]) == 0
        names = sorted(path.name for path in folder.iterdir())
        assert names == ["figures.png", "figures.svg"]
    assert "A Processor" in (first / "figures.svg").read_text()
    assert (first / "figures.png").read_bytes().startswith(b"\x89PNG")
    for name in ("figures.png", "figures.svg"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_figures_without_a_plot_are_named(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "figures.json"
    file.write_text(json.dumps({**FIGURES, "kind": "elections"}))
    assert main(["plot", str(file)]) == 2
    assert "no plot for figures of 'elections'" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [file]


def test_without_matplotlib_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    original = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert main(["plot", "figures.json"]) == 2
    assert "rsqlite[bench]" in capsys.readouterr().out

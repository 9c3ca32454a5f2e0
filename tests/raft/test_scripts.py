"""Every script in `scripts/` does what its golden part says (`--rewrite` writes that part anew)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.raft import script

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path, request: pytest.FixtureRequest) -> None:
    text, made = script.run(path)
    # The option exists only when this folder's conftest was loaded from the command line.
    if request.config.getoption("--rewrite", default=False):
        path.write_text(made)
    else:
        assert text == made, "read the difference; if it is meant: pytest tests/raft --rewrite"


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 20


def test_a_command_that_prints_something_else_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "wrong.txt"
    path.write_text("> nodes 1\n\n> campaign 1\n1: becomes king\n")
    text, made = script.run(path)
    assert text != made
    assert "1: becomes leader in term 1" in made

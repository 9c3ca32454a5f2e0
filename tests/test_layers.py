"""Imports point down: the contracts of pyproject.toml hold, and each of them notices a breach."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMAND = "from importlinter.cli import lint_imports_command as main; main()"

pytestmark = pytest.mark.slow


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", COMMAND, "--no-cache", "--no-logo"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "client")])},
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_point_down() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("rsqlite/node/loop.py", "import rsqlite.server", "imports point down"),
        ("rsqlite/storage/disk.py", "import rsqlite.transport", "imports point down"),
        ("rsqlite/mystery.py", "", "imports point down"),
        ("rsqlite/raft/types.py", "import time", "the core does no I/O and keeps no time"),
        ("rsqlite/storage/disk.py", "import asyncio", "floors below the node know callbacks"),
        ("rsqlite/storage/disk.py", "import apsw", "the core, the log and the peers know"),
        ("client/rsqlite_client/__init__.py", "import rsqlite", "the client knows nothing"),
        ("client/rsqlite_client/session.py", "import time", "what the client decides, it decides"),
        ("client/rsqlite_client/proto.py", "import http.client", "what the client decides, it"),
    ],
)
def test_a_breach_is_noticed(tmp_path: Path, file: str, line: str, contract: str) -> None:
    for name in ("rsqlite", "client"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / file).open("a") as broken:
        broken.write(f"\n{line}\n")
    result = lint_imports(tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    assert any(
        row.startswith(contract) and row.rstrip().endswith("BROKEN")
        for row in result.stdout.splitlines()
    ), result.stdout

"""Other people's test suites: fetched by name, version and hash, unpacked, and run as they are.

Where the package index cannot be reached the test is skipped, and says so.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FETCH_TIMEOUT_S = 120
SUITE_TIMEOUT_S = 240


def pip(*words: str | Path) -> None:
    """Run pip; skip the test, with its last words, when it cannot fetch what it should."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    try:
        result = subprocess.run(
            [*command, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=FETCH_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"NOT RUN: the package index did not answer in {FETCH_TIMEOUT_S} s")
    assert "DO NOT MATCH THE HASHES" not in result.stderr, result.stderr
    if result.returncode != 0:
        last = result.stderr.strip().splitlines()[-1:] or ["no reason given"]
        pytest.skip(f"NOT RUN: the suite cannot be fetched: {last[0]}")


def fetch(folder: Path, requirements: str) -> None:
    """Unpack the source distributions of a list of names, versions and hashes into `folder`."""
    only_sources = ["--no-deps", "--no-binary", ":all:", "--require-hashes"]
    pip("download", *only_sources, "-d", folder, "-r", HERE / requirements)
    for archive in folder.glob("*.tar.gz"):
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    for archive in folder.glob("*.zip"):
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)


def replace(folder: Path, pattern: str, text: str) -> None:
    for path in folder.rglob("*.py"):
        before = path.read_text(encoding="utf-8")
        after = re.sub(pattern, text, before)
        if after != before:
            path.write_text(after, encoding="utf-8")


def run_suite(fetched: Path, suite: Path, import_from: Path, words: Sequence[str]) -> str:
    """Run the suite's own tests in a process of their own; its last line, such as `46 passed`."""
    environment = {key: value for key, value in os.environ.items() if "PYTEST" not in key}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, [import_from, fetched / "needs"]))
    settings = suite / "none.ini"
    settings.write_text("[pytest]\n")
    pytest_words = ["-c", str(settings), "--rootdir", str(suite), "-p", "no:cacheprovider"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *pytest_words, "-q", "-W", "ignore", "--tb=short", *words],
        cwd=suite,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SUITE_TIMEOUT_S,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-20_000:] + result.stderr[-2_000:]
    return result.stdout.strip().splitlines()[-1]


def passed(line: str) -> int:
    found = re.search(r"(\d+) passed", line)
    return int(found[1]) if found else 0

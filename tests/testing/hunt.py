"""Puts known bugs back one at a time and lets the simulator find them.

    python -m tests.testing.hunt --seeds 300 [--only 'two votes*'] [--invariants] [--results FILE]

Each bug of `mutations.py` is put into a copy of the package; the seeds run until one is wrong. A
table says which seed found it, and how. The exit code is 1 when one was not found. Without
`--invariants` the core does not check itself, so what finds a bug is what a client, or a file that
is left, tells.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import click

from tests.testing.mutations import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[2]
TIME_MAX_S = 1800.0
"""Of one bug."""


class Hunt(NamedTuple):
    """What became of one bug."""

    mutation: Mutation
    seeds: int
    """How many were needed; of one that was not found, how many ran."""
    seconds: float
    found: str
    """What the simulator said; empty if it found nothing."""

    def row(self) -> str:
        """A line of the table."""
        seeds = str(self.seeds) if self.found else f"not in {self.seeds}"
        said = self.found.replace("|", "/")[:90] or "-"
        return f"| {self.mutation.name} | `{self.mutation.path}` | {seeds} | {said} |"


def put_back(mutation: Mutation, root: Path) -> None:
    """Change the copy of the package under `root`."""
    path = root / "rsqlite" / mutation.path
    text = path.read_text()
    assert text.count(mutation.before) == 1, f"{mutation.name}: the code is another one now"
    path.write_text(text.replace(mutation.before, mutation.after))


def copy_package(source: Path, target: Path) -> None:
    """The package alone."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source / "rsqlite", target / "rsqlite", ignore=ignored)


def hunt(mutation: Mutation, seeds: int, *, source: Path = ROOT, invariants: bool = False) -> Hunt:
    """Simulate until the bug shows, or the seeds are over."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rsqlite-hunt-") as folder:
        copy = Path(folder)
        copy_package(source, copy)
        put_back(mutation, copy)
        (copy / "sim").mkdir()
        command = [sys.executable, "-m", "rsqlite.testing.simulate", "--stop"]
        command += ["--seeds", str(seeds), "--directory", str(copy / "sim")]
        command += ["--invariants"] if invariants else []
        done = subprocess.run(
            command,
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
            timeout=TIME_MAX_S,
            check=False,
        )
    took = time.monotonic() - began
    said = re.search(r"^seed (\d+): (.*)$", done.stdout, re.MULTILINE)
    if said is not None:
        return Hunt(mutation, int(said[1]), took, said[2])
    if done.returncode:
        # The simulator itself could not go on: that is found as well.
        return Hunt(mutation, 1, took, (done.stderr.strip().splitlines() or ["no word"])[-1])
    return Hunt(mutation, seeds, took, "")


def table(hunts: list[Hunt], seeds: int, *, invariants: bool) -> str:
    """What is kept."""
    missed = [one for one in hunts if not one.found]
    how = "with the core's own invariants" if invariants else "without the core's own invariants"
    lines = [
        "# Bugs that were put back",
        "",
        f"{len(hunts) - len(missed)} of {len(hunts)} found by `rsqlite.testing.simulator`, {how},"
        f" within {seeds} seeds each.",
        "",
        "| bug | put into | seeds until it was found | what was seen |",
        "| --- | --- | --- | --- |",
        *(one.row() for one in hunts),
    ]
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--seeds", default=300, show_default=True, help="So many for each bug at most")
@click.option("--only", multiple=True, help="Patterns of names")
@click.option("--invariants", is_flag=True, help="Let the core check itself after every step")
@click.option("--jobs", default=os.cpu_count() or 1, show_default=True)
@click.option("--results", type=click.Path(path_type=Path), help="Write the table there")
def main(
    seeds: int, only: tuple[str, ...], invariants: bool, jobs: int, results: Path | None
) -> None:
    """Hunt all bugs; exit code 1 when one was not found."""
    chosen = [
        one
        for one in MUTATIONS
        if not only or any(fnmatch.fnmatch(one.name, pattern) for pattern in only)
    ]
    hunts: list[Hunt] = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        source = Path(folder)  # as it is now, however long this takes
        copy_package(ROOT, source)
        for one in pool.map(
            lambda each: hunt(each, seeds, source=source, invariants=invariants), chosen
        ):
            hunts.append(one)
            print(f"{one.seconds:6.0f} s  {one.row()}", flush=True)
    if results is not None:
        results.write_text(table(hunts, seeds, invariants=invariants))
    sys.exit(0 if all(one.found for one in hunts) else 1)


if __name__ == "__main__":
    main()

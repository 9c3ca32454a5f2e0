"""Simulate clusters from seeds, one run after the other (`simulator.py`).

python -m rsqlite.testing.simulate --seeds 100 --from 1 --steps 1000
python -m rsqlite.testing.simulate --seed 7 --trace
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from rsqlite.raft.core import Raft
from rsqlite.testing.simulator import STEPS, simulation


@contextmanager
def quiet() -> Iterator[None]:
    """No log meanwhile: what nodes say of their faults is no news here."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


@click.command()
@click.option("--seed", type=int, help="One run of this seed")
@click.option("--seeds", default=100, help="So many runs", show_default=True)
@click.option("--from", "first", default=1, help="The first seed", show_default=True)
@click.option("--steps", default=STEPS, help="Steps of a run", show_default=True)
@click.option("--trace", is_flag=True, help="Print what happened")
@click.option("--stop", is_flag=True, help="End at the first run that is wrong")
@click.option("--invariants", is_flag=True, help="Let the core check itself after every step")
@click.option("--directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(
    seed: int | None,
    seeds: int,
    first: int,
    steps: int,
    trace: bool,
    stop: bool,
    invariants: bool,
    directory: Path | None,
) -> None:
    """Simulate clusters; exit code 1 when a run was wrong."""
    wrong: list[int] = []
    faults, answers = Counter[str](), Counter[str]()
    began, virtual_s, runs = time.monotonic(), 0.0, 0
    Raft.checks_every_step = invariants
    numbers = [seed] if seed is not None else range(first, first + seeds)
    for number in numbers:
        if stop and wrong:
            break
        runs += 1
        with quiet(), simulation(number, directory) as run:
            try:
                run.run(steps)
            except Exception as error:  # noqa: BLE001 - told, and the next run begins
                wrong.append(number)
                print(f"seed {number}: {type(error).__name__}: {error}")
                print(f"    python -m rsqlite.testing.simulate --seed {number} --steps {steps}")
                if trace:
                    traceback.print_exception(error)
            if trace:
                print("\n".join(run.trace))
            faults += run.nemesis.done
            answers += run.workload.answered
            virtual_s += run.cluster.loop.monotonic()
    took = time.monotonic() - began
    print(f"{runs} runs, {virtual_s:.0f} s of theirs in {took:.0f} s, wrong: {wrong or 0}")
    print("answers:", ", ".join(f"{name} {many}" for name, many in answers.most_common()))
    print("faults:", ", ".join(f"{name} {many}" for name, many in faults.most_common()))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

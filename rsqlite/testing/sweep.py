"""Every call to the disk fails once: in each scenario, at the first call, the second, and so on.

python -m rsqlite.testing.sweep --scenario vacuum --kind tear
python -m rsqlite.testing.sweep --stride 7

A scenario is a run of the simulator (`simulator.py`) in which nothing happens by chance: clients
work, and somebody does one thing, such as a VACUUM. It is run once to count the calls that one
node, the victim, makes to its disk meanwhile, and then once for each of them and each kind of
fault. After that everything is made good, as in the simulator: no acknowledged write may be missing
and no refused one be there, all nodes hold the same, and every directory is sound.
"""

from __future__ import annotations

import errno
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import click

from rsqlite.config import KIB
from rsqlite.errors import DiskFault, RequestError
from rsqlite.node.changes import Remove, Transfer
from rsqlite.node.engine import Engine
from rsqlite.testing.frail import Call, Fault
from rsqlite.testing.simulate import quiet
from rsqlite.testing.simulator import Simulation, simulation
from rsqlite.testing.workload import expect

SETTINGS = {"segment_bytes": 64 * KIB, "log_keep_bytes": 64 * KIB, "raft_snap": 16}
BULK = f"INSERT INTO bulk VALUES('{'x' * 20_000}')"
AWAY_S = 6.0
"""So long is somebody away for whom the log is cut."""
WORK_STEPS = 12
STEP_S = 0.01
REST_S = 0.05


class Kind(NamedTuple):
    """A kind of fault, but for when."""

    kind: str = "die"
    number: int = errno.EIO
    lasts: bool = False
    of: frozenset[Call] = frozenset(Call)
    loses_power: bool = False
    """What was not synced is lost when the node ends: a failed sync drops it, too."""

    def at(self, call: int) -> Fault:
        return Fault(call, self.kind, self.number, self.lasts, self.of)


_GROWING = frozenset({Call.WRITE, Call.SIZE, Call.NAME})
KINDS: Mapping[str, Kind] = {
    "die": Kind(),
    "lose power": Kind(loses_power=True),
    "tear": Kind("tear", of=frozenset({Call.WRITE})),
    "EIO": Kind("fail"),
    "EIO for ever": Kind("fail", lasts=True),
    "failed sync": Kind("fail", of=frozenset({Call.SYNC}), loses_power=True),
    "ENOSPC": Kind("fail", errno.ENOSPC, of=_GROWING),
    "ENOSPC for long": Kind("fail", errno.ENOSPC, True, _GROWING),
}


def work(run: Simulation, steps: int = WORK_STEPS) -> None:
    """Clients ask what they ask."""
    for step in range(steps):
        running = run.cluster.running()
        if running:
            run.workload.operate(running[step % len(running)])
        run.advance(STEP_S)


def rest(run: Simulation, seconds: float) -> None:
    """Nobody asks anything; who ended starts again."""
    for _ in range(round(seconds / REST_S)):
        run.advance(REST_S)


def leader(run: Simulation) -> Engine | None:
    return next((engine for engine in run.cluster.running() if engine.is_leader), None)


class Scenario(NamedTuple):
    """`prepare` comes before the faults, and says whose disk fails; `act` is when it does."""

    size: int
    prepare: Callable[[Simulation], int]
    act: Callable[[Simulation], None]


def _first(run: Simulation) -> int:
    work(run)
    return 0


def _leading(run: Simulation) -> int:
    work(run)
    return run.cluster.number(run.cluster.leader())


def _following(run: Simulation) -> int:
    work(run)
    return run.cluster.number(run.cluster.followers()[0])


def _asks(ask: Callable[[Engine, Simulation], object]) -> Callable[[Simulation], None]:
    """Somebody asks it of the leader, while clients work."""

    def act(run: Simulation) -> None:
        work(run, 2)
        if (engine := leader(run)) is not None:
            ask(engine, run)
        work(run)
        rest(run, 0.5)

    return act


def _restarts(*, has_power: bool) -> Callable[[Simulation], int]:
    """The victim is down when its disk begins to fail."""

    def prepare(run: Simulation) -> int:
        number = _following(run) if run.size > 1 else _first(run)
        run.crash(number, 0.01, has_power=has_power, is_now=True)
        return number

    return prepare


def _left_behind(run: Simulation) -> int:
    """Its place in the log is cut away while it is down."""
    number = _following(run)
    run.crash(number, AWAY_S, is_now=True)
    _fill(run)
    return number


def _fill(run: Simulation) -> None:
    """So much that the log is cut."""
    run.cluster.execute(run.cluster.leader(), "CREATE TABLE bulk(v)")
    for _ in range(4):
        for _ in range(6):
            run.cluster.execute(run.cluster.leader(), BULK)
        work(run)
        run.cluster.leader().snapshot(run.told)
        rest(run, 0.2)
    log = run.cluster.leader().log
    expect(log.first_index > 1, "the log was not cut")


def _wait(run: Simulation) -> None:
    work(run)
    rest(run, AWAY_S)


def _sending(run: Simulation) -> int:
    _left_behind(run)
    return run.cluster.number(run.cluster.leader())


def _diverging(run: Simulation) -> int:
    """One has an entry that nobody else has, and must take it back."""
    number = _leading(run)
    engine = run.cluster.leader()
    run.cluster.isolate(engine)
    for _ in range(3):
        run.workload.operate(engine)
    work(run, 60)
    return number


def _heal(run: Simulation) -> None:
    run.cluster.board.heal()
    work(run)
    rest(run, 0.5)


def _joining(run: Simulation) -> int:
    work(run)
    run.nemesis.excuse(RequestError)
    return len(run.cluster.addresses)


def _join(run: Simulation) -> None:
    run.start_soon(run.cluster.plan())
    work(run)
    rest(run, 2.0)


def _remove(engine: Engine, run: Simulation) -> None:
    gone = run.cluster.followers()[-1]
    engine.change_membership(Remove(str(gone.node_id)), run.told)


def _damaged(run: Simulation) -> int:
    """Its hard state is damaged: it gives itself up, and comes back as another."""
    number = _following(run)
    run.crash(number, 0.01, is_now=True)
    path = run.directory_of(number) / "log" / "hardstate"
    path.write_bytes(b"\xff" * len(path.read_bytes()))
    return number


def _tampered(run: Simulation) -> int:
    """Its database is not that of the others: it gives it up, and gets theirs."""
    number = _following(run)
    work(run, 60)
    engine = run.cluster.engines[number]
    assert engine is not None
    run.nemesis.change_rows(engine)
    return number


def _verify(run: Simulation) -> None:
    run.cluster.leader().verify(run.told, 5.0)
    _wait(run)


SCENARIOS: Mapping[str, Scenario] = {
    "write": Scenario(1, _first, work),
    "define": Scenario(1, _first, _asks(lambda engine, run: run.workload.define(engine))),
    "snapshot": Scenario(1, _first, _asks(lambda engine, run: engine.snapshot(run.told))),
    "vacuum": Scenario(1, _first, _asks(lambda engine, run: engine.vacuum_all(run.told, 5.0))),
    "scrub": Scenario(1, _first, _asks(lambda engine, run: engine.begin_scrub())),
    "start": Scenario(1, _restarts(has_power=True), work),
    "start after a power loss": Scenario(1, _restarts(has_power=False), work),
    "lead": Scenario(3, _leading, work),
    "follow": Scenario(3, _following, work),
    "hand over": Scenario(
        3, _leading, _asks(lambda engine, run: engine.change_membership(Transfer(), run.told))
    ),
    "take over": Scenario(
        3, _following, _asks(lambda engine, run: engine.change_membership(Transfer(), run.told))
    ),
    "vacuum a follower": Scenario(
        3, _following, _asks(lambda engine, run: engine.vacuum_all(run.told, 5.0))
    ),
    "verify": Scenario(3, _following, _asks(lambda engine, run: engine.verify(run.told, 5.0))),
    "catch up": Scenario(3, _restarts(has_power=False), work),
    "take back": Scenario(3, _diverging, _heal),
    "send an image": Scenario(3, _sending, _wait),
    "install an image": Scenario(3, _left_behind, _wait),
    "join": Scenario(3, _joining, _join),
    "lead a join": Scenario(3, _leading, _join),
    "remove": Scenario(3, _leading, _asks(_remove)),
    "give up the log": Scenario(3, _damaged, _wait),
    "give up the database": Scenario(3, _tampered, _verify),
}


def play(
    name: str, kind: Kind | None, call: int, root: Path | None = None, seed: int = 1
) -> Counter[Call]:
    """One run; the calls that the victim made while `act` lasted. `Wrong` if it was wrong."""
    scenario = SCENARIOS[name]
    with quiet(), simulation(seed, root, size=scenario.size, **SETTINGS) as run:
        run.begin()
        victim = scenario.prepare(run)
        disk = run.disks[victim]
        before = disk.calls.copy()
        if kind is not None:
            run.nemesis.excuse(DiskFault)
            run.has_power = not kind.loses_power
            disk.inject(kind.at(call))
        scenario.act(run)
        made = disk.calls - before
        run.end()
        return made


def points(
    name: str,
    kinds: Mapping[str, Kind],
    stride: int = 1,
    root: Path | None = None,
    seed: int = 1,
) -> Iterator[tuple[str, int]]:
    """All kinds of faults at all calls of a scenario, or each at one of `stride`, by turns."""
    made = play(name, None, 0, root, seed)
    for number, (kind, fault) in enumerate(kinds.items()):
        count = sum(many for call, many in made.items() if call in fault.of)
        for call in range(1 + number % min(stride, max(1, count)), count + 1, stride):
            yield kind, call


@click.command()
@click.option("--scenario", "names", multiple=True, type=click.Choice(list(SCENARIOS)))
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)))
@click.option("--call", type=int, help="Only this call")
@click.option("--stride", default=1, help="One call of so many", show_default=True)
@click.option("--seed", default=1, help="Of what clients ask, and of settings", show_default=True)
@click.option("--seeds", default=1, help="So many, from that one on", show_default=True)
@click.option("--directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--results", type=click.Path(dir_okay=False, path_type=Path), help="Write a table")
def main(
    names: tuple[str, ...],
    kinds: tuple[str, ...],
    call: int | None,
    stride: int,
    seed: int,
    seeds: int,
    directory: Path | None,
    results: Path | None,
) -> None:
    """Fail every call; exit code 1 when a run was wrong."""
    began, wrong = time.monotonic(), 0
    done: dict[str, Counter[str]] = {}
    chosen = {kind: fault for kind, fault in KINDS.items() if not kinds or kind in kinds}
    for name in names or SCENARIOS:
        done[name] = Counter()
        for one in range(seed, seed + seeds):
            every = points(name, chosen, stride, directory, one)
            for kind, number in every if call is None else ((kind, call) for kind in chosen):
                try:
                    play(name, chosen[kind], number, directory, one)
                except Exception as error:  # noqa: BLE001 - told, and the next run begins
                    wrong += 1
                    where = f'--seed {one} --scenario "{name}" --kind "{kind}" --call {number}'
                    print(f"{where}: {error!r}", flush=True)
                done[name][kind] += 1
        print(f"{name}: {done[name].total()} points", flush=True)
    took = time.monotonic() - began
    total = sum(each.total() for each in done.values())
    summary = f"{total} points in {took:.0f} s, wrong: {wrong}"
    print(summary)
    if results is not None:
        results.write_text(_table(done, f"Seeds {seed} to {seed + seeds - 1}, {summary}."))
    sys.exit(1 if wrong else 0)


def _table(done: Mapping[str, Counter[str]], summary: str) -> str:
    kinds = [kind for kind in KINDS if any(kind in each for each in done.values())]
    rows = [["scenario", *kinds], ["---"] * (1 + len(kinds))]
    rows += [[name, *(str(each[kind]) for kind in kinds)] for name, each in done.items()]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(["# Sweep: calls to a disk that failed", "", summary, "", *lines, ""])


if __name__ == "__main__":
    main()

"""A follower that was left behind comes back by an image while writes go on: how long that takes,
and what the writes notice of it.

The follower is killed, and the leader writes until its log is cut behind what the follower has.
Then clients insert through the leader all the time, and the follower is started.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.console import Console

from bench.generator import Measurement, Run, WrongAnswer, loop_factory, measure
from bench.harness import Target, call, own_cluster, wait_everywhere
from bench.report import Steps, figure_table, header, spread, steps, thousands, write_json
from bench.slices import Mark, Slice
from bench.usage import sizes_of
from bench.workloads import Bulks, Inserts
from rsqlite.testing.cluster import ClusterError, NodeState, ProcessCluster, ProcessNode

TABLE, LOAD_TABLE = "bench_catchup", "bench_catchup_load"
GOAL = 0.5
"""Writes a second while the follower catches up, against those before, at least."""
BULK_CLIENTS = 4
BULKS_AT_ONCE = 200
ROWS_MAX = 20_000_000
"""By then the log must have been cut."""
WARMUP = 0.5
LOOK_INTERVAL = 0.1
"""Between two looks at the nodes: what the times are known to, and the lag that is caught up."""
CATCH_UP_TIMEOUT = 300.0
QUICK_OPTIONS = ("-raft-snap=16", "-raft-snap-int=100ms", "-log-keep-bytes=64KiB")
"""A log that is cut soon."""
QUICK_ROW_BYTES = 60_000
PHASES = ("before", "during", "after")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="a small database: a look, no figure")
    parser.add_argument("--rows", type=int, default=1_000_000, help="at the least, in the image")
    parser.add_argument("--clients", type=int, default=16, help="that insert meanwhile")
    parser.add_argument("--seconds", type=float, default=5.0, help="of load before and after")
    parser.add_argument("--rounds", type=int, default=3, help="each with a fresh cluster")


@dataclass(frozen=True, slots=True)
class Look:
    """The cluster at one moment of the load."""

    mark: Mark
    commit_index: int
    """The leader's."""
    applied_index: int | None
    """The follower's; None while it does not answer."""


@dataclass(frozen=True, slots=True)
class Round:
    """One return."""

    image_seconds: float
    """From the start of the process until the image is its database."""
    seconds: float
    """Until it is no further behind than LOOK_INTERVAL."""
    database_bytes: int
    phases: Sequence[Slice]
    """Of the load: PHASES."""
    timeline: Sequence[tuple[Slice, int | None]]
    """Between the looks, with how many entries the follower was behind at the end of each."""

    @property
    def kept(self) -> float:
        return self.phases[1].per_second / self.phases[0].per_second

    def as_json(self) -> dict[str, Any]:
        return {
            "image_seconds": round(self.image_seconds, 3),
            "seconds": round(self.seconds, 3),
            "database_bytes": self.database_bytes,
            "kept": round(self.kept, 4),
            "before_seconds": round(self.phases[0].seconds, 3),
            "phases": {
                name: {
                    "writes_per_second": round(one.per_second, 1),
                    "p50_ms": round(one.p50_ms, 4),
                    "p99_ms": round(one.p99_ms, 4),
                    "max_ms": round(one.max_ms, 4),
                }
                for name, one in zip(PHASES, self.phases, strict=True)
            },
            "timeline": [
                {
                    "seconds": round(one.seconds, 4),
                    "writes_per_second": round(one.per_second, 1),
                    "p99_ms": round(one.p99_ms, 4),
                    "entries_behind": behind,
                }
                for one, behind in self.timeline
            ],
        }


def run(arguments: argparse.Namespace, console: Console) -> int:
    first = header(arguments)
    options = list(arguments.option)
    if arguments.quick:
        arguments.rounds, arguments.rows, arguments.seconds = 1, 0, 0.5
        options += QUICK_OPTIONS
    rounds = []
    with steps(console, 3 * arguments.rounds) as progress:
        for number in range(arguments.rounds):
            progress.tell(f"round {number + 1}: starting")
            with own_cluster(options, arguments.directory, arguments.keep) as target:
                rounds.append(one_return(target, arguments, progress))
    show(rounds, console)
    is_met = median(one.kept for one in rounds) >= GOAL
    if arguments.json:
        content = {"clients": arguments.clients, "goal": GOAL, "is_met": is_met}
        lines = [one.as_json() for one in rounds]
        write_json(arguments.json, {**first, **content, "rounds": lines})
    return 1 if arguments.asserts and not is_met else 0


def one_return(target: Target, arguments: argparse.Namespace, progress: Steps) -> Round:
    cluster = target.cluster
    assert cluster is not None
    leader = next(node for node in cluster.nodes if node.http_url == target.leader)
    follower = next(node for node in cluster.nodes if node.http_url == target.follower)
    creates = [f"CREATE TABLE {one}(id INTEGER PRIMARY KEY, v TEXT)" for one in (TABLE, LOAD_TABLE)]
    call(target.leader, "/db/execute", creates)
    progress.tell("leaving a follower behind")
    rows = leave_behind(
        cluster, leader, follower, long_rows if arguments.quick else Bulks, arguments.rows
    )
    progress.advance()
    term = target.term()
    progress.tell("it comes back")
    back = Return(leader, follower, arguments.clients)
    database_bytes = sizes_of(leader.pid, leader.directory).database_bytes
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(back.run(arguments.seconds))
    progress.advance()
    progress.tell("counting rows")
    cluster.wait_ready(CATCH_UP_TIMEOUT)
    wait_everywhere(target, TABLE, rows)
    wait_everywhere(target, LOAD_TABLE, back.source.rows)
    if target.term() != term:
        raise WrongAnswer("an election took place meanwhile")
    progress.advance()
    return back.result(database_bytes)


Fill = Callable[[str, str], Bulks | Inserts]
"""What is written while the follower is away, through a URL into a table."""


def long_rows(url: str, table: str) -> Inserts:
    """So long that few of them fill the segment of the log that must go."""
    return Inserts(url, table, after=b"x" * QUICK_ROW_BYTES)


def leave_behind(
    cluster: ProcessCluster, leader: ProcessNode, follower: ProcessNode, fill: Fill, rows: int
) -> int:
    """Kill the follower, and write at least so many rows, until the log begins behind what it has;
    how many were written."""
    cluster.wait_applied()
    has_index = int(follower.raft_status()["last_log_index"])
    follower.kill()
    written = 0
    while written < rows or int(leader.raft_status()["first_log_index"]) <= has_index + 1:
        if written > ROWS_MAX:
            raise WrongAnswer(f"the log was not cut within {written:,} rows")
        source = fill(leader.http_url, TABLE)
        measure(
            url=leader.http_url,
            source=source,
            clients=BULK_CLIENTS,
            requests=BULKS_AT_ONCE,
        )
        written += source.rows
    return written


class Return:
    """The load, and the looks at both nodes while it goes on."""

    def __init__(self, leader: ProcessNode, follower: ProcessNode, clients: int) -> None:
        self._leader, self._follower = leader, follower
        self.source = Inserts(leader.http_url, LOAD_TABLE)
        self._run = Run(url=leader.http_url, source=self.source, clients=clients, warmup=WARMUP)
        self._looks: list[Look] = []
        self._began: Mark
        self._ended: Mark
        """The follower was started, and had caught up."""
        self._image_at = 0.0
        self._first_index = 0
        """The first entry in the leader's log when the follower was started."""

    async def run(self, seconds: float) -> None:
        """Load for so long, the return, and load for as long again."""
        measuring = asyncio.create_task(self._run.measure())
        try:
            while not self._run.marks and not measuring.done():
                await asyncio.wait([measuring], timeout=LOOK_INTERVAL)
            await self._look_until(measuring, lambda: self._has_lasted(seconds))
            self._first_index = int(self._leader.raft_status()["first_log_index"])
            self._began = self._run.mark()
            await asyncio.to_thread(self._follower.start)
            await self._look_until(measuring, self._has_caught_up)
            self._ended = self._run.mark()
            await self._look_until(measuring, lambda: self._has_lasted(seconds, self._ended))
        finally:
            self._run.stop()
            await measuring

    def result(self, database_bytes: int) -> Round:
        marks = self._run.marks
        borders = [marks[0], self._began, self._ended, marks[-1]]
        looks = self._looks
        return Round(
            image_seconds=self._image_at - self._began.at,
            seconds=self._ended.at - self._began.at,
            database_bytes=database_bytes,
            phases=[self._run.between(begin, end) for begin, end in itertools.pairwise(borders)],
            timeline=[
                (self._run.between(before.mark, after.mark), behind(after))
                for before, after in itertools.pairwise(looks)
            ],
        )

    async def _look_until(
        self, measuring: asyncio.Task[Measurement], is_over: Callable[[], bool]
    ) -> None:
        """Look at the nodes again and again, in a thread: the load must not wait for answers."""
        while not measuring.done():
            self._looks.append(await asyncio.to_thread(self._look))
            if is_over():
                return
            await asyncio.wait([measuring], timeout=LOOK_INTERVAL)

    def _look(self) -> Look:
        commit_index = int(self._leader.raft_status()["commit_index"])
        return Look(self._run.mark(), commit_index, applied_index(self._follower))

    def _has_lasted(self, seconds: float, since: Mark | None = None) -> bool:
        return self._looks[-1].mark.at - (since or self._run.marks[0]).at >= seconds

    def _has_caught_up(self) -> bool:
        """Whether the follower has what the leader had committed at the look before."""
        before, now = self._looks[-2:]
        if now.applied_index is not None and now.applied_index + 1 >= self._first_index:
            # The log does not reach back to what the follower had, so this came by an image.
            self._image_at = self._image_at or now.mark.at
            if now.applied_index >= before.commit_index:
                return True
        if now.mark.at - self._began.at > CATCH_UP_TIMEOUT:
            raise WrongAnswer(f"not caught up after {CATCH_UP_TIMEOUT:.0f} s")
        return False


def applied_index(node: ProcessNode) -> int | None:
    """None while the node does not answer."""
    if node.state is NodeState.DOWN:
        return None
    node.check_alive()
    try:
        return int(node.raft_status()["applied_index"])
    except (OSError, http.client.HTTPException, ClusterError):
        return None


def behind(look: Look) -> int | None:
    """Entries that the follower lacks; it may have more than the leader had when it was asked."""
    if look.applied_index is None:
        return None
    return max(0, look.commit_index - look.applied_index)


def show(rounds: Sequence[Round], console: Console) -> None:
    table = figure_table("the return of a follower, [lowest..highest] of the rounds", "", "figure")
    megabytes = [one.database_bytes / 1e6 for one in rounds]
    table.add_row("database, MB", spread(megabytes, 0))
    table.add_row("start to image installed, s", spread([one.image_seconds for one in rounds]))
    table.add_row("start to caught up, s", spread([one.seconds for one in rounds]))
    for number, name in enumerate(PHASES):
        phases = [one.phases[number] for one in rounds]
        rate = thousands(median(one.per_second for one in phases))
        p99 = spread([one.p99_ms for one in phases], 1)
        table.add_row(f"{name}: writes/s, p99 ms", f"{rate}, {p99}")
    kept = [one.kept for one in rounds]
    sign = "yes" if median(kept) >= GOAL else "NO"
    table.add_row("writes during / before", f"{spread(kept)}, goal >= {GOAL}, met: {sign}")
    console.print(table)

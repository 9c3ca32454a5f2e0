"""Whether the cluster holds its leader under full load, and during an UPDATE of ten seconds."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import apsw
from rich.console import Console

from bench.generator import Measurement, Run, Source, WrongAnswer, loop_factory, request_bytes
from bench.harness import READ_TABLE, Target, call, own_cluster, prepare_reads
from bench.report import header, write_json
from bench.workloads import Exchanges, error_in, parsed, reads

LOAD_ROWS = 10_000
SEGMENT_SECONDS = 20.0
"""The load is measured in pieces, so that a change of term has a time."""
LOADS = (("leader", "updates", 64), ("follower", "updates", 16), ("follower", "linearizable", 16))
UPDATE_SECONDS = 10.0
UPDATE_TRIES = 4
CALIBRATION_STEPS = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=10.0, help="time of full load")


class Updates:
    """Adds one to a row: the table keeps its size, and its sum counts the acknowledged writes."""

    def __init__(self, url: str) -> None:
        pairs = []
        for number in range(LOAD_ROWS, 2 * LOAD_ROWS):
            statement = ["UPDATE bench_load SET n=n+1 WHERE id=?", number]
            body = json.dumps([statement], separators=(",", ":")).encode()
            pairs.append((request_bytes(url, "/db/execute", body), b""))
        self.next = Exchanges(pairs).next

    def check(self, data: bytes, body: int, expected: bytes | int) -> None:
        if data.endswith(b'"rows_affected":1}]}') and b'"error"' not in data:
            return
        answer = parsed(data, body)
        if not isinstance(answer, dict) or [
            result.get("rows_affected") for result in answer.get("results", [])
        ] != [1]:
            raise WrongAnswer(error_in(data, body))

    def finish(self) -> None:
        pass


def run(arguments: argparse.Namespace, console: Console) -> int:
    first = header(arguments)
    with own_cluster(arguments.option, arguments.directory, arguments.keep) as target:
        prepare(target)
        load = full_load(target, arguments.minutes * 60, console)
        update = long_update(target, console)
    is_met = load["elections"] == 0 and update["elections"] == 0
    console.print("no election" if is_met else "[bold red]there were elections[/]")
    if arguments.json:
        content = {**first, "full_load": load, "long_update": update}
        write_json(arguments.json, content)
    return 1 if arguments.asserts and not is_met else 0


def prepare(target: Target) -> None:
    prepare_reads(target)
    rows = (
        "WITH RECURSIVE c(x) AS (SELECT ?1 UNION ALL SELECT x+1 FROM c WHERE x < 2*?1-1) "
        "INSERT INTO bench_load SELECT x, 0 FROM c"
    )
    create = "CREATE TABLE bench_load(id INTEGER PRIMARY KEY, n INTEGER)"
    call(target.leader, "/db/execute", [create, [rows, LOAD_ROWS]])
    assert target.cluster is not None
    target.cluster.wait_applied()


def full_load(target: Target, seconds: float, console: Console) -> dict[str, Any]:
    """All of LOADS at once for `seconds`; terms gained, and writes counted against the table."""
    term = before = target.term()
    assert before is not None
    changes: list[dict[str, float]] = []
    writes = reads_done = 0
    worst_ms = 0.0
    begin = time.monotonic()
    while (left := seconds - (time.monotonic() - begin)) > 0:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            measured = runner.run(load_segment(target, min(left, SEGMENT_SECONDS)))
        writes += sum(one.acknowledged for _, one in measured if _ == "updates")
        reads_done += sum(one.acknowledged for _, one in measured if _ != "updates")
        worst_ms = max(worst_ms, *(one.max_ms for _, one in measured))
        now = target.term()
        elapsed = time.monotonic() - begin
        console.print(
            f"{elapsed:6.0f} s  term {now}  {writes / elapsed:,.0f} writes/s  "
            f"{reads_done / elapsed:,.0f} linearizable reads/s  worst {worst_ms:.0f} ms",
            highlight=False,
        )
        if now != term:
            changes.append({"seconds": round(elapsed, 1), "term": float(now or 0)})
            term = now
    sql = "SELECT sum(n) FROM bench_load"
    (result,) = call(target.leader, "/db/query?level=linearizable", [sql])
    if result["values"] != [[writes]]:
        raise WrongAnswer(f"{writes} updates were acknowledged, the table says {result['values']}")
    return {
        "seconds": round(time.monotonic() - begin, 1),
        "writes": writes,
        "linearizable_reads": reads_done,
        "worst_ms": round(worst_ms, 1),
        "elections": (term or 0) - before,
        "changes": changes,
    }


async def load_segment(target: Target, seconds: float) -> list[tuple[str, Measurement]]:
    async def one(through: str, what: str, clients: int) -> tuple[str, Measurement]:
        url = target.leader if through == "leader" else target.follower
        assert url is not None
        source: Source = (
            Updates(url) if what == "updates" else reads(url, READ_TABLE, "linearizable")
        )
        load = Run(url=url, source=source, clients=clients, seconds=seconds, warmup=0.0)
        return what, await load.measure()

    return list(await asyncio.gather(*(one(*load) for load in LOADS)))


def long_update(target: Target, console: Console) -> dict[str, Any]:
    """One UPDATE that takes SQLite at least UPDATE_SECONDS on each node, with reads beside it."""
    assert target.cluster is not None
    term = target.term()
    steps = int(steps_per_second() * UPDATE_SECONDS)
    for _ in range(UPDATE_TRIES):
        begin = time.monotonic()
        worst_ms = update_with_reads(target, steps)
        seconds = time.monotonic() - begin
        target.cluster.wait_applied(timeout_s=30 + 5 * seconds)
        everywhere = time.monotonic() - begin
        console.print(
            f"UPDATE: {seconds:.1f} s, on all nodes after {everywhere:.1f} s, "
            f"worst read beside it {worst_ms:.0f} ms, term {target.term()}",
            highlight=False,
        )
        if seconds >= UPDATE_SECONDS:
            break
        steps = int(steps * 1.2 * UPDATE_SECONDS / seconds)
    else:
        raise WrongAnswer(f"no UPDATE took {UPDATE_SECONDS} s")
    return {
        "seconds": round(seconds, 2),
        "seconds_on_all_nodes": round(everywhere, 2),
        "worst_read_ms": round(worst_ms, 1),
        "elections": (target.term() or 0) - (term or 0),
    }


COUNT_SQL = (
    "(WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < {steps}) "
    "SELECT max(x) FROM c)"
)


def update_with_reads(target: Target, steps: int) -> float:
    """Run the UPDATE through the leader; the longest a point read took meanwhile, in ms."""
    sql = f"UPDATE bench_load SET n={COUNT_SQL.format(steps=steps)} WHERE id={LOAD_ROWS}"

    async def both() -> float:
        loop = asyncio.get_running_loop()
        worst_ms = 0.0
        with ThreadPoolExecutor(1) as pool:
            path = "/db/execute?timeout=120s"
            update = loop.run_in_executor(pool, call, target.leader, path, [sql])
            while not update.done():
                source = reads(target.leader, READ_TABLE, "none")
                one = Run(url=target.leader, source=source, clients=4, seconds=0.5, warmup=0.0)
                worst_ms = max(worst_ms, (await one.measure()).max_ms)
            (result,) = await update
        if result.get("rows_affected") != 1:
            raise WrongAnswer(f"the long UPDATE was answered {result!r}")
        return worst_ms

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(both())


def steps_per_second() -> float:
    """How fast SQLite counts here, to choose an UPDATE that lasts."""
    connection = apsw.Connection(":memory:")
    begin = time.perf_counter()
    connection.execute(f"SELECT {COUNT_SQL.format(steps=CALIBRATION_STEPS)}").fetchall()
    return CALIBRATION_STEPS / (time.perf_counter() - begin)

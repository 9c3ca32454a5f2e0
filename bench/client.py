"""What the Python client costs: beside raw requests, the server's bulk figure, and in process."""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console

import rsqlite
from bench.generator import WrongAnswer, measure, percentile
from bench.harness import Target, call, own_cluster
from bench.report import figure_table, header, spread, steps, thousands, write_json
from bench.workloads import BULK_ROWS, Bulks

MANY_ROWS = 10_000
READ_ROWS = 1_000
BLOCK = 40
"""Requests of one kind before those of the other: a machine drifts by more than what is to be seen,
so the two take turns."""
READ = "SELECT id, v FROM bench_client_reads WHERE id = ?"
CREATE_READS = "CREATE TABLE bench_client_reads(id INTEGER PRIMARY KEY, v TEXT)"
FILL_READS = "INSERT INTO bench_client_reads VALUES(?,?)"
READS = [(number, f"row {number}") for number in range(READ_ROWS)]
INSERT = "INSERT INTO bench_client_inserts(v) VALUES(?)"
FLAGS = "typed&compact"


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure against a floor of the same round. `factor` None: no verdict."""

    name: str
    floor: str
    factor: float | None
    is_at_most: bool = True
    unit: str = "us"

    def is_met(self, ratio: float) -> bool:
        if self.factor is None:
            return True
        return ratio <= self.factor if self.is_at_most else ratio >= self.factor

    def __str__(self) -> str:
        if self.factor is None:
            return ""
        return f"{'<=' if self.is_at_most else '>='} {self.factor:g} x {self.floor}"


GOALS = (
    Goal("read", "raw", 1.3),
    Goal("read-none", "raw", 1.3),
    Goal("insert", "raw", 1.3),
    Goal("async-read", "raw", None),
    Goal("executemany", "bulk", 0.5, is_at_most=False, unit="rows/s"),
    Goal("in-process-read", "http", 10.0, is_at_most=False, unit="1/s"),
    Goal("in-process-async-read", "http", 10.0, is_at_most=False, unit="1/s"),
)


@dataclass(slots=True)
class Found:
    """Figures and floors of one goal, one of each for a round."""

    goal: Goal
    figures: list[float] = field(default_factory=list)
    floors: list[float] = field(default_factory=list)

    def add(self, figure: float, floor: float) -> None:
        self.figures.append(figure)
        self.floors.append(floor)

    @property
    def ratios(self) -> list[float]:
        pairs = zip(self.figures, self.floors, strict=True)
        return sorted(figure / floor for figure, floor in pairs)

    @property
    def is_met(self) -> bool:
        return self.goal.is_met(median(self.ratios))

    def as_json(self) -> dict[str, Any]:
        ratios = self.ratios
        return {
            "name": self.goal.name,
            "unit": self.goal.unit,
            "figure": round(median(self.figures), 2),
            "floor": self.goal.floor,
            "floor_figure": round(median(self.floors), 2),
            "ratio": round(median(ratios), 3),
            "ratio_spread": [round(ratios[0], 3), round(ratios[-1], 3)],
            "goal": str(self.goal) or None,
            "is_met": self.is_met if self.goal.factor is not None else None,
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3, help="rounds, each with a fresh cluster")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each pair")


def run(arguments: argparse.Namespace, console: Console) -> int:
    first = header(arguments)
    found = {goal.name: Found(goal) for goal in GOALS}
    with steps(console, arguments.rounds) as progress:
        for number in range(arguments.rounds):
            progress.tell(f"round {number + 1}")
            with own_cluster(arguments.option, arguments.directory, arguments.keep) as target:
                measure_round(target, found, arguments.seconds)
            progress.advance()
    print_table(console, list(found.values()))
    if arguments.json:
        summary = [one.as_json() for one in found.values()]
        write_json(arguments.json, {**first, "summary": summary})
    return 1 if arguments.asserts and not all(one.is_met for one in found.values()) else 0


def measure_round(target: Target, found: dict[str, Found], seconds: float) -> None:
    """Every goal once, against one cluster."""
    with ExitStack() as stack:
        db = stack.enter_context(closing(rsqlite.connect(target.leader)))
        raw = stack.enter_context(closing(Raw(target.leader)))
        prepare(db)
        numbers = cycle(READ_ROWS)

        def read() -> None:
            number = next(numbers)
            check(db.execute(READ, (number,)).fetchall(), [(number, f"row {number}")])

        def read_none() -> None:
            number = next(numbers)
            rows = db.execute(READ, (number,), read="none").fetchall()
            check(rows, [(number, f"row {number}")])

        def insert() -> None:
            db.execute(INSERT, ("row 0000000000 abcdefghij",))

        weak = raw.post("/db/query", "&redirect&timeout=30000ms", READ)
        none = raw.post("/db/query", "&level=none&min_index=1", READ)
        write = raw.post("/db/request", "&redirect&timeout=30000ms", INSERT)
        found["read"].add(*pair(read, lambda: weak(next(numbers)), seconds))
        found["read-none"].add(*pair(read_none, lambda: none(next(numbers)), seconds))
        found["insert"].add(*pair(insert, lambda: write("row 0000000000 abcdefghij"), seconds))
        found_async, raw_read = found["async-read"], lambda: weak(next(numbers))
        asyncio.run(measure_async(target.leader, found_async, raw_read, seconds))
        figure = many_rows_per_second(db, seconds)
        found["executemany"].add(figure, bulk_rows_per_second(target, seconds))
        measure_in_process(found["in-process-read"], read, seconds)
        asyncio.run(measure_in_process_async(found["in-process-async-read"], read, seconds))


def prepare(db: rsqlite.Connection) -> None:
    """The tables, with what is read."""
    db.execute(CREATE_READS)
    db.executemany(FILL_READS, READS)
    for name in ("inserts", "many"):
        db.execute(f"CREATE TABLE bench_client_{name}(id INTEGER PRIMARY KEY, v TEXT)")


def cycle(count: int) -> Iterator[int]:
    while True:
        yield from range(count)


def check(rows: Any, wanted: Any) -> None:
    if rows != wanted:
        raise WrongAnswer(f"read {rows!r} instead of {wanted!r}")


class Raw:
    """A kept-alive http.client connection, and nothing else: the floor."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port)

    def post(self, path: str, flags: str, sql: str) -> Callable[[Any], None]:
        """Sends what the client sends, and reads the answer."""
        connection, target = self._connection, f"{path}?{FLAGS}{flags}"
        headers = {"Content-Type": "application/json"}

        def send(parameter: Any) -> None:
            body = json.dumps([[sql, parameter]], separators=(",", ":")).encode()
            connection.request("POST", target, body, headers)
            answer = connection.getresponse()
            if answer.status != 200 or not answer.read().startswith(b'{"results":[{'):
                raise WrongAnswer(f"{path} answered {answer.status}")

        return send

    def close(self) -> None:
        self._connection.close()


def pair(one: Callable[[], None], other: Callable[[], None], seconds: float) -> tuple[float, float]:
    """p50 in microseconds of two calls that take turns in blocks."""
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    is_warm = False
    while not times[1] or time.perf_counter() < end:
        for call_one, into in zip((one, other), times, strict=True):
            for _ in range(BLOCK):
                begin = time.perf_counter()
                call_one()
                if is_warm:
                    into.append(time.perf_counter() - begin)
        is_warm = True
    return p50_us(times[0]), p50_us(times[1])


def p50_us(times: list[float]) -> float:
    return percentile(sorted(times), 0.5) * 1e6


async def pair_async(
    db: rsqlite.aio.Connection, other: Callable[[], None], seconds: float
) -> tuple[float, float]:
    """The same for a read that is awaited, and a call that blocks."""
    numbers = cycle(READ_ROWS)
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while not times[1] or time.perf_counter() < end:
        for _ in range(BLOCK):
            number = next(numbers)
            begin = time.perf_counter()
            rows = await db.execute_fetchall(READ, (number,))
            times[0].append(time.perf_counter() - begin)
            check(rows, [(number, f"row {number}")])
        for _ in range(BLOCK):
            begin = time.perf_counter()
            other()
            times[1].append(time.perf_counter() - begin)
        await asyncio.sleep(0)  # the loop of a node must turn
    return p50_us(times[0]), p50_us(times[1])


async def measure_async(url: str, found: Found, raw: Callable[[], None], seconds: float) -> None:
    """Over aiohttp, one request at a time."""
    async with rsqlite.aio.connect(url) as db:
        found.add(*await pair_async(db, raw, seconds))


def many_rows_per_second(db: rsqlite.Connection, seconds: float) -> float:
    """Of `executemany`; all rows must be there afterwards."""
    rows = [(f"{number:010d} row {number % 10_000:04d} abc",) for number in range(MANY_ROWS)]
    sql = "INSERT INTO bench_client_many(v) VALUES(?)"
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 2 or time.perf_counter() < end:
        begin = time.perf_counter()
        cursor = db.executemany(sql, rows)
        times.append(time.perf_counter() - begin)
        if cursor.rowcount != MANY_ROWS:
            raise WrongAnswer(f"executemany reports {cursor.rowcount} rows")
    count = db.execute("SELECT count(*) FROM bench_client_many").fetchone()
    if count != (MANY_ROWS * len(times),):
        raise WrongAnswer(f"{MANY_ROWS * len(times)} rows were written, {count} are there")
    return MANY_ROWS / median(times[1:])


def bulk_rows_per_second(target: Target, seconds: float) -> float:
    """The server's own figure: what `bulk-1-leader` of the other benchmark measures."""
    table = "bench_client_bulk"
    create = f"CREATE TABLE {table}(id INTEGER PRIMARY KEY, v TEXT)"
    call(target.leader, "/db/execute", [create])
    source = Bulks(target.leader, table)
    found = measure(url=target.leader, source=source, clients=1, seconds=seconds, warmup=0.5)
    return found.per_second * BULK_ROWS


def measure_in_process(found: Found, http_read: Callable[[], None], seconds: float) -> None:
    """The same read on a node in this process, which nobody else uses."""
    with closing(rsqlite.connect(":memory:")) as db:
        prepare(db)
        numbers = cycle(READ_ROWS)

        def read() -> None:
            number = next(numbers)
            check(db.execute(READ, (number,)).fetchall(), [(number, f"row {number}")])

        local_us, http_us = pair(read, http_read, seconds)
    found.add(1e6 / local_us, 1e6 / http_us)


async def measure_in_process_async(
    found: Found, http_read: Callable[[], None], seconds: float
) -> None:
    """The same on the loop that the node lives on."""
    async with rsqlite.aio.connect(":memory:") as db:
        await db.execute(CREATE_READS)
        await db.executemany(FILL_READS, READS)
        local_us, http_us = await pair_async(db, http_read, seconds)
    found.add(1e6 / local_us, 1e6 / http_us)


def print_table(console: Console, found: Sequence[Found]) -> None:
    title = "medians; ratio = figure / floor within one round, [lowest..highest]"
    table = figure_table(title, "client", "figure", "floor", "ratio", "goal", "met")
    for one in found:
        unit = one.goal.unit
        table.add_row(
            one.goal.name,
            f"{thousands(median(one.figures))} {unit}",
            f"{one.goal.floor} {thousands(median(one.floors))} {unit}",
            spread(one.ratios),
            str(one.goal),
            "" if one.goal.factor is None else "yes" if one.is_met else "NO",
        )
    console.print(table)

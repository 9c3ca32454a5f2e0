"""How long no write is acknowledged after the leader is killed, and after it is paused."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from signal import SIGKILL
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from bench.generator import WrongAnswer, loop_factory, request_bytes
from bench.harness import Target, call, own_cluster
from bench.report import header, write_json
from rsqlite.testing.process import ProcessNode

GOALS_S = {"SIGKILL": 0.7, "SIGSTOP": 1.5}
"""Medians that the project promises, with default settings."""
PROBE_INTERVAL = 0.01
"""A fresh write is sent this often, so that a stuck one cannot hide that writes work again."""
PROBE_LIMIT = 30.0
PROBE_TABLE_SQL = "CREATE TABLE failover(id INTEGER PRIMARY KEY, v TEXT)"
PHASE_MAX = 0.2
"""The fault comes at a random moment after the cluster is calm: heartbeats have a phase."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeat", type=int, default=10, help="times per signal")
    parser.add_argument("--seed", type=int, default=1)


def run(arguments: argparse.Namespace, console: Console) -> int:
    first = header(arguments)
    chance = random.Random(arguments.seed)
    results: dict[str, list[float]] = {signal: [] for signal in GOALS_S}
    with own_cluster(arguments.option, arguments.directory, arguments.keep) as target:
        call(target.leader, "/db/execute", [PROBE_TABLE_SQL])
        for number in range(arguments.repeat):
            for signal, times in results.items():
                times.append(one_failover(target, signal, chance))
                console.print(
                    f"{number + 1}/{arguments.repeat} {signal}: {times[-1] * 1e3:.0f} ms",
                    highlight=False,
                )
    is_met = show(results, console)
    if arguments.json:
        content: dict[str, Any] = first
        for signal, times in results.items():
            content[signal] = {
                "seconds": [round(one, 4) for one in times],
                "median": round(median(times), 4),
                "goal": GOALS_S[signal],
            }
        write_json(arguments.json, content)
    return 1 if arguments.asserts and not is_met else 0


def show(results: dict[str, list[float]], console: Console) -> bool:
    table = Table(title="seconds from the signal to the next acknowledged write")
    for column in ("signal", "median", "lowest", "highest", "goal", "met"):
        table.add_column(column, justify="left" if column == "signal" else "right")
    all_met = True
    for signal, times in results.items():
        is_met = median(times) <= GOALS_S[signal]
        all_met = all_met and is_met
        table.add_row(
            signal,
            f"{median(times):.3f}",
            f"{min(times):.3f}",
            f"{max(times):.3f}",
            f"<= {GOALS_S[signal]}",
            "yes" if is_met else "NO",
        )
    console.print(table)
    return all_met


def one_failover(target: Target, signal: str, chance: random.Random) -> float:
    """Hit the leader and write through the others until one is acknowledged; then heal."""
    cluster = target.cluster
    assert cluster is not None
    leader = cluster.leader()
    call(cluster.http_url(leader), "/db/execute", [["INSERT INTO failover(v) VALUES(?)", "calm"]])
    cluster.wait_applied()
    time.sleep(chance.random() * PHASE_MAX)
    survivors = [node.http_url for node in cluster.nodes if node.index != leader]
    node = cluster.nodes[leader]
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        hit = (lambda: end_process(node)) if signal == "SIGKILL" else node.pause
        seconds = runner.run(probe_until_acknowledged(survivors, hit))
    if signal == "SIGKILL":
        node.kill()  # it is gone already; now its owner knows
        node.start()
    else:
        node.resume()
    cluster.wait_ready()
    return seconds


def end_process(node: ProcessNode) -> None:
    """SIGKILL; returns at the moment when the process is gone, which `node.kill` may see late."""
    assert node.process is not None
    node.process.send_signal(SIGKILL)
    os.waitid(os.P_PID, node.pid, os.WEXITED | os.WNOWAIT)


async def probe_until_acknowledged(urls: Sequence[str], hit: Callable[[], None]) -> float:
    """Seconds from calling `hit` to the first acknowledgement of a write sent after it."""
    begin = time.perf_counter()
    # Nothing is sent before the leader can certainly answer no more: a killed process takes some
    # milliseconds until it is gone.
    hit()
    probes: set[asyncio.Task[bool]] = set()
    number = 0
    try:
        while time.perf_counter() - begin < PROBE_LIMIT:
            probes.add(asyncio.create_task(probe(urls[number % len(urls)], number)))
            number += 1
            done, probes = await asyncio.wait(probes, timeout=PROBE_INTERVAL)
            if any(task.result() for task in done):
                return time.perf_counter() - begin
            if done and not probes:
                await asyncio.sleep(PROBE_INTERVAL)  # everything is refused at once: pace it
        raise WrongAnswer(f"no write was acknowledged within {PROBE_LIMIT:.0f} s")
    finally:
        for task in probes:
            task.cancel()
        await asyncio.gather(*probes, return_exceptions=True)


async def probe(url: str, number: int) -> bool:
    """Whether one insert through `url` was acknowledged; errors mean that it was not."""
    parts = urlsplit(url)
    body = json.dumps([["INSERT INTO failover(v) VALUES(?)", f"probe {number}"]]).encode()
    try:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    except OSError:
        return False
    try:
        writer.write(
            request_bytes(url, "/db/execute", body).replace(
                b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1
            )
        )
        answer = await reader.read(-1)
    except OSError:
        return False
    finally:
        writer.close()
    return answer.startswith(b"HTTP/1.1 200 ") and b'"rows_affected":1' in answer

"""Acceptance: real processes, clients that write down all they are told, faults, and the check that
every promise was kept.

    python tests/e2e/accept.py --minutes 10 [--nodes 3 --nodes 5] [--seed 7] [--results DIR]

The minutes are shared by the given cluster sizes. The exit code is 0 only if all held, and if there
was something to hold: enough traffic, every kind of fault, at least one change of leader. What
failed is kept: data directories, logs, history and seed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import apsw  # noqa: E402

from rsqlite.testing.cluster import ClusterError, NodeState, ProcessCluster  # noqa: E402
from tests.e2e.api import Api  # noqa: E402
from tests.e2e.checks import CONTENT_QUERIES, content_problems, register_problems  # noqa: E402
from tests.e2e.clients import SCHEMA, Clients  # noqa: E402
from tests.e2e.files import differences  # noqa: E402
from tests.e2e.history import History, Ledger  # noqa: E402
from tests.e2e.nemesis import Nemesis  # noqa: E402

START_S = 60.0
HEAL_S = 60.0
SETTLE_S = 60.0
ACKNOWLEDGED_PER_SECOND_MIN = 5.0
"""Operations acknowledged per second of the run, faults included; less is no test."""


@dataclass(slots=True)
class Verdict:
    """One cluster's run."""

    nodes: int
    seed: int
    seconds: float
    problems: list[str]
    facts: dict[str, Any]

    @property
    def has_passed(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        return {
            "nodes": self.nodes,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "has_passed": self.has_passed,
            "problems": self.problems,
            **self.facts,
        }


def say(text: str) -> None:
    print(text, flush=True)


UPKEEP = ("-scrub-interval=2s", "-scrub-bytes-per-second=256MiB", "-verify-interval=15s")
"""What nodes do once a day, beside everything else."""


class Acceptance:
    """One run against one cluster."""

    def __init__(
        self, nodes: int, seconds: float, seed: int, directory: Path, options: list[str]
    ) -> None:
        self.count, self.seconds, self.seed = nodes, seconds, seed
        self.directory = directory
        self.cluster = ProcessCluster(nodes, directory, [*UPKEEP, *options])
        self.history = History()
        self.ledger = Ledger()
        self.problems: list[str] = []
        self.facts: dict[str, Any] = {}

    def run(self) -> Verdict:
        begin = time.monotonic()
        try:
            self.cluster.start(START_S)
            # The leader may change between being asked for and being written to.
            self.cluster.nodes[self.cluster.leader()].call("POST", "/db/execute", SCHEMA)
            asyncio.run(self._under_faults())
            self._heal()
            self._check_content()
            self.cluster.kill_all()
            self.problems += differences([node.directory for node in self.cluster.nodes])
        except (ClusterError, OSError) as error:
            self.problems.append(str(error))
        finally:
            self.cluster.close()
        self.problems += self.history.violations
        self.problems += register_problems(self.history)
        registers = self.history.registers()
        self.facts["registers"] = len(registers)
        self.facts["register_operations"] = sum(map(len, registers.values()))
        verdict = Verdict(
            self.count, self.seed, time.monotonic() - begin, self.problems, self.facts
        )
        if not verdict.has_passed:
            self.history.write(self.directory / "history.jsonl")
        return verdict

    async def _under_faults(self) -> None:
        urls = [node.http_url for node in self.cluster.nodes]
        async with Api(urls) as api:
            clients = Clients(api, self.history, self.ledger, self.seed)
            nemesis = Nemesis(self.cluster, clients, random.Random(self.seed))
            begin = time.monotonic()
            async with asyncio.TaskGroup() as group:
                for client in clients.run():
                    group.create_task(client)
                try:
                    await nemesis.run(self.seconds)
                except ClusterError as error:
                    self.problems.append(str(error))
                finally:
                    clients.stop.set()
            self._note(clients, nemesis, time.monotonic() - begin)

    def _note(self, clients: Clients, nemesis: Nemesis, seconds: float) -> None:
        """What happened, and whether it was enough to mean anything."""
        faults = Counter(fault["fault"] for fault in self.history.faults)
        acknowledged = self.history.acknowledged()
        self.facts = {
            "load_seconds": round(seconds, 1),
            "operations": self.history.counts(),
            "acknowledged": acknowledged,
            "markers": {
                "acknowledged": len(self.ledger.sure),
                "unknown": len(self.ledger.maybe - self.ledger.sure),
                "refused": len(self.ledger.never),
            },
            "forwarded": clients.forwarded,
            "acknowledged_by_node": dict(sorted(clients.acknowledged_by_node.items())),
            "faults": dict(sorted(faults.items())),
            "leaders": len(nemesis.leaders),
            "terms": [min(nemesis.terms, default=0), max(nemesis.terms, default=0)],
            "slowest_recovery_s": round(max(nemesis.recoveries_s, default=0.0), 2),
        }
        if acknowledged < ACKNOWLEDGED_PER_SECOND_MIN * seconds:
            self.problems.append(f"only {acknowledged} operations in {seconds:.0f} s")
        if len(nemesis.leaders) < 2:
            self.problems.append("the leader never changed")
        if not clients.forwarded:
            self.problems.append("no write was forwarded")
        if silent := set(range(self.count)) - set(clients.acknowledged_by_node):
            self.problems.append(f"nothing was acknowledged by nodes {sorted(silent)}")
        for kind in ("kill", "pause", "kill all"):
            if not any(name.startswith(kind) for name in faults):
                self.problems.append(f"there was no fault of the kind '{kind}'")

    def _heal(self) -> None:
        """Everything runs, and every node has applied all that was committed."""
        for node in self.cluster.nodes:
            if node.state is NodeState.PAUSED:
                node.resume()
            elif node.state is NodeState.DOWN:
                node.start()
        self.cluster.wait_ready(HEAL_S)
        self.facts["applied_index"] = self.cluster.wait_applied(timeout_s=SETTLE_S)

    def _check_content(self) -> None:
        """Each node, asked for its own copy, against what its clients were told."""
        for node in self.cluster.nodes:
            path = "/db/query?level=none"
            answer = node.call("POST", path, CONTENT_QUERIES, timeout_s=SETTLE_S)
            for problem in content_problems(self.ledger, answer["results"]):
                self.problems.append(f"node {node.index}: {problem}")


def conclude(directory: Path, problems: Sequence[str]) -> int:
    """Keep the data of a run that failed, and only that; the exit code."""
    if problems:
        say(f"kept: {directory}")
    else:
        shutil.rmtree(directory)
    say("FAILED" if problems else "passed")
    return 1 if problems else 0


def machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
    }


def write_results(directory: Path, command: list[str], verdicts: list[Verdict]) -> None:
    """`accept.json` and `accept.md`."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {
        "command": " ".join(command),
        "machine": machine(),
        "runs": [verdict.as_json() for verdict in verdicts],
    }
    (directory / "accept.json").write_text(json.dumps(content, indent=2) + "\n")
    lines = [
        "# Acceptance run",
        "",
        f"`{content['command']}` on {', '.join(f'{k} {v}' for k, v in machine().items())}.",
        "",
        "| nodes | seed | seconds | acknowledged | unknown | forwarded | faults | leaders "
        "| registers | slowest recovery | result |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in verdicts:
        facts = one.facts
        unknown = sum(counts.get("info", 0) for counts in facts.get("operations", {}).values())
        lines.append(
            f"| {one.nodes} | {one.seed} | {one.seconds:.0f} | {facts.get('acknowledged', 0)} "
            f"| {unknown} | {facts.get('forwarded', 0)} "
            f"| {sum(facts.get('faults', {}).values())} | {facts.get('leaders', 0)} "
            f"| {facts.get('registers', 0)} | {facts.get('slowest_recovery_s', 0)} s "
            f"| {'passed' if one.has_passed else 'FAILED'} |"
        )
    lines += [
        "",
        "Checked: every acknowledged write exactly once on all nodes, no refused one, unknown ones "
        "at most once; registers linearizable; transactions whole at every read; content equal by "
        "`dbhash` at one applied index; `rsqlite check` content with every node.",
        "",
    ]
    for one in verdicts:
        for problem in one.problems:
            lines.append(f"- {one.nodes} nodes, seed {one.seed}: {problem.splitlines()[0]}")
    (directory / "accept.md").write_text("\n".join(lines).rstrip() + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="for all sizes together")
    parser.add_argument("--nodes", type=int, action="append", help="cluster sizes; default: 3 5")
    parser.add_argument("--seed", type=int, help="of faults and clients; default: a new one")
    parser.add_argument("--results", type=Path, help="write accept.json and accept.md there")
    parser.add_argument(
        "--directory", type=Path, help="where data goes; default: the temporary one"
    )
    parser.add_argument("--option", action="append", default=[], help="a flag for rsqlited")
    parser.add_argument("--keep", action="store_true", help="keep the data of good runs as well")
    arguments = parser.parse_args()
    sizes = arguments.nodes or [3, 5]
    seconds = arguments.minutes * 60 / len(sizes)
    seed = arguments.seed if arguments.seed is not None else secrets.randbelow(1_000_000)
    verdicts = []
    for nodes in sizes:
        directory = Path(
            tempfile.mkdtemp(prefix=f"rsqlite-accept-{nodes}-", dir=arguments.directory)
        )
        say(f"{nodes} nodes, {seconds:.0f} s, seed {seed}, in {directory}")
        verdict = Acceptance(nodes, seconds, seed, directory, arguments.option).run()
        verdicts.append(verdict)
        say(json.dumps(verdict.as_json(), indent=2))
        if verdict.has_passed and not arguments.keep:
            shutil.rmtree(directory)
        else:
            say(f"kept: {directory}")
    if arguments.results:
        command = ["python", "tests/e2e/accept.py", *sys.argv[1:]]
        write_results(arguments.results, command, verdicts)
    has_passed = all(verdict.has_passed for verdict in verdicts)
    say("passed" if has_passed else "FAILED")
    return 0 if has_passed else 1


if __name__ == "__main__":
    sys.exit(main())

"""Acceptance of membership: nodes come, go, move and are replaced under load, with kills in between
and in the middle of changes.

    python tests/e2e/churn.py --minutes 15 [--seed 7] [--results DIR]

Three processes to begin with, and up to five. First comes every operation once, then any of them at
random. A planned one may leave the cluster without a leader no longer than one election timeout, as
clients see it. In the end: no acknowledged write is lost, no read at linearizable went back, every
register is linearizable, and the nodes hold the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from rsqlite.testing.cluster import ClusterError, NodeState, ProcessCluster  # noqa: E402
from tests.e2e.accept import UPKEEP, machine, say  # noqa: E402
from tests.e2e.api import Api  # noqa: E402
from tests.e2e.checks import CONTENT_QUERIES, content_problems, register_problems  # noqa: E402
from tests.e2e.clients import SCHEMA, Clients  # noqa: E402
from tests.e2e.files import differences  # noqa: E402
from tests.e2e.history import History, Ledger  # noqa: E402
from tests.e2e.members import GAP_MAX_S, SETTLE_S, Members, Step  # noqa: E402
from tests.e2e.pulse import CREATE, Pulse  # noqa: E402

START_S = 60.0
ALL_BEATS = "SELECT n FROM pulse"


class Churn:
    """One run against one cluster."""

    def __init__(
        self, seconds: float, seed: int, directory: Path, options: Sequence[str] = ()
    ) -> None:
        self.seconds, self.seed, self.directory = seconds, seed, directory
        self.cluster = ProcessCluster(3, directory, [*UPKEEP, *options])
        self.history, self.ledger = History(), Ledger()
        self.problems: list[str] = []
        self.steps: list[Step] = []
        self.facts: dict[str, Any] = {}

    def run(self, only: Sequence[str] = (), *, is_timed: bool = True) -> dict[str, Any]:
        """What was found. `only`: these operations, each once. Gaps count if it `is_timed`."""
        begin = time.monotonic()
        try:
            self.cluster.start(START_S)
            leader = self.cluster.nodes[self.cluster.leader()]
            leader.call("POST", "/db/execute", [*SCHEMA, CREATE])
            asyncio.run(self._under_load(only))
            if is_timed:
                self._judge_gaps()
        except (ClusterError, OSError) as error:
            self.problems.append(str(error))
        finally:
            self.cluster.close()
        self.problems += self.history.violations
        self.problems += register_problems(self.history)
        if self.problems:
            self.history.write(self.directory / "history.jsonl")
        return {
            "seed": self.seed,
            "seconds": round(time.monotonic() - begin, 1),
            "acknowledged": self.history.acknowledged(),
            "registers": len(self.history.registers()),
            **self.facts,
            "operations": summary(self.steps),
            "steps": [step.as_json() for step in self.steps],
            "problems": self.problems,
        }

    async def _under_load(self, only: Sequence[str]) -> None:
        targets = [node.index for node in self.cluster.nodes]
        urls = [node.http_url for node in self.cluster.nodes]
        async with Api(urls) as api:
            clients = Clients(api, self.history, self.ledger, self.seed, targets=targets)
            pulse = Pulse(api, self.history, targets, self.seed)
            chance = random.Random(self.seed)
            members = Members(self.cluster, urls, targets, pulse, self.history, chance)
            async with asyncio.TaskGroup() as group:
                for client in [*clients.run(), pulse.run()]:
                    group.create_task(client)
                try:
                    await members.run(self.seconds, only)
                except ClusterError as error:
                    self.problems.append(str(error))
                finally:
                    clients.stop.set()
                    pulse.stop.set()
            self.steps = members.steps
            pulse.write(self.directory / "pulse.json")
            self._note(pulse)
            await asyncio.to_thread(self._finish, members, pulse)

    def _note(self, pulse: Pulse) -> None:
        self.facts = {
            "beats": len(pulse.sure),
            "linearizable_reads_of_the_pulse": pulse.reads,
            "longest_planned_gap_s": round(
                max((step.gap_s for step in self.steps if step.is_planned), default=0.0), 3
            ),
        }

    def _judge_gaps(self) -> None:
        for step in self.steps:
            if step.is_planned and step.gap_s > GAP_MAX_S:
                self.problems.append(f"{step.name}: no write was taken for {step.gap_s:.2f} s")

    def _finish(self, members: Members, pulse: Pulse) -> None:
        """All that was promised, on every node that is left; then their files."""
        nodes = list(members.roles)
        for node in nodes:
            if node.state is NodeState.PAUSED:
                node.resume()
            elif node.state is NodeState.DOWN:
                node.start()
        self.cluster.wait_ready(SETTLE_S)
        self.facts["applied_index"] = self.cluster.wait_applied(timeout_s=SETTLE_S)
        for node in nodes:
            path = "/db/query?level=none"
            queries = [*CONTENT_QUERIES, ALL_BEATS]
            answer = node.call("POST", path, queries, timeout_s=SETTLE_S)
            *content, beats = answer["results"]
            numbers = [row[0] for row in beats.get("values", [])]
            for problem in [*content_problems(self.ledger, content), *pulse.problems(numbers)]:
                self.problems.append(f"node {node.label}: {problem}")
        self.cluster.kill_all()  # a clean stop hands over, and the next leader writes an entry
        self.problems += differences([node.directory for node in nodes])


def summary(steps: Sequence[Step]) -> dict[str, dict[str, Any]]:
    """Each operation: how often, and the worst that clients saw of it."""
    found: dict[str, dict[str, Any]] = {}
    for step in steps:
        one = found.setdefault(
            step.name,
            {
                "planned": step.is_planned,
                "times": 0,
                "longest_gap_s": 0.0,
                "longest_without_leader_s": 0.0,
                "measured_late_s": 0.0,
            },
        )
        one["times"] += 1
        for name, value in (
            ("longest_gap_s", step.gap_s),
            ("longest_without_leader_s", step.unled_s),
            ("measured_late_s", step.late_s),
        ):
            one[name] = max(one[name], round(value, 3))
    return found


def write_results(directory: Path, command: list[str], runs: list[dict[str, Any]]) -> None:
    """`churn.json` and `churn.md`."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {"command": " ".join(command), "machine": machine(), "runs": runs}
    (directory / "churn.json").write_text(json.dumps(content, indent=1) + "\n")
    lines = [
        "# Membership under load",
        "",
        f"`{content['command']}` on {', '.join(f'{k} {v}' for k, v in machine().items())}.",
        "",
    ]
    for run in runs:
        lines += [
            f"Seed {run['seed']}: {run['seconds']:.0f} s, {run['acknowledged']} operations of"
            f" clients and {run.get('beats', 0)} beats acknowledged, {run['registers']} registers,"
            f" {'FAILED' if run['problems'] else 'passed'}.",
            "",
            "| operation | planned | times | longest time without an acknowledged write |"
            " nobody said that he led | the clock of the measurement was late by |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for name, one in sorted(run["operations"].items()):
            lines.append(
                f"| {name} | {'yes' if one['planned'] else ''} | {one['times']} "
                f"| {one['longest_gap_s']:.2f} s | {one['longest_without_leader_s']:.2f} s "
                f"| {one['measured_late_s']:.2f} s |"
            )
        lines += ["", *(f"- {problem.splitlines()[0]}" for problem in run["problems"]), ""]
    (directory / "churn.md").write_text("\n".join(lines).rstrip() + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="for all runs together")
    parser.add_argument("--runs", type=int, default=3, help="clusters, each with another seed")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--only", action="append", default=[], help="these operations, once each")
    parser.add_argument("--results", type=Path, help="write churn.json and churn.md there")
    parser.add_argument("--directory", type=Path, help="where data goes")
    parser.add_argument("--option", action="append", default=[], help="a flag for rsqlited")
    arguments = parser.parse_args()
    runs = []
    for number in range(arguments.runs):
        seed = arguments.seed + number
        directory = Path(tempfile.mkdtemp(prefix="rsqlite-churn-", dir=arguments.directory))
        seconds = arguments.minutes * 60 / arguments.runs
        say(f"seed {seed}, {seconds:.0f} s, in {directory}, load {os.getloadavg()[0]:.1f}")
        found = Churn(seconds, seed, directory, arguments.option).run(arguments.only)
        runs.append(found)
        say(json.dumps({key: value for key, value in found.items() if key != "steps"}, indent=1))
        if found["problems"]:
            say(f"kept: {directory}")
        else:
            shutil.rmtree(directory)
    if arguments.results:
        write_results(arguments.results, ["python", "tests/e2e/churn.py", *sys.argv[1:]], runs)
    has_passed = not any(run["problems"] for run in runs)
    say("passed" if has_passed else "FAILED")
    return 0 if has_passed else 1


if __name__ == "__main__":
    sys.exit(main())

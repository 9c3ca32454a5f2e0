"""Acceptance: full, failing and hanging disks of real processes, under load.

    python tests/e2e/disks.py [--only 'full-log-*'] [--seed 7] [--results DIR]

Each case has three nodes, each with a file system of its own for its log and one for its database.
The exit code is 0 only if all held. What failed is kept: logs, history and seed. Needs root, loop
devices and strace; without them it says so and ends with exit code 2. PATIENCE=3 in the environment
makes its bounds three times as long, for a machine that has other things to do.
"""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import http.client
import json
import random
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from rsqlite.testing.cluster import ClusterError  # noqa: E402
from tests.e2e import injection, volumes  # noqa: E402
from tests.e2e.accept import machine, say  # noqa: E402
from tests.e2e.api import Api  # noqa: E402
from tests.e2e.checks import CONTENT_QUERIES, content_problems, register_problems  # noqa: E402
from tests.e2e.clients import SCHEMA, Clients  # noqa: E402
from tests.e2e.disk_cases import PATIENCE, Case, Run, all_cases  # noqa: E402
from tests.e2e.disk_rig import PADDING_QUERY, PADDING_SCHEMA, Prober, Rig, pad  # noqa: E402
from tests.e2e.files import differences  # noqa: E402
from tests.e2e.history import History, Ledger  # noqa: E402

SETTLE_S = 60.0 * PATIENCE
UNAVAILABLE = 2
OTHERS_WENT_ON = {
    f"progress {when} s"
    for when in ("without room", "without the failed node", "beside a disk that hangs")
}


CHECKED = (
    "Checked in each: every acknowledged write exactly once on all nodes, no refused one, no half "
    "transaction; registers linearizable; contents equal by `POST /verify`, by `dbhash` and by "
    "`rsqlite check`; reads served meanwhile by every node that has a majority, and at level none "
    "by one whose disk is full; refusals with 503 and the reason; no sync of a file whose write or "
    "sync has failed; no process ended but by an error of its disk, with exit code 7."
)


@dataclass(slots=True)
class Verdict:
    """One case's run."""

    case: Case
    seed: int
    seconds: float
    problems: list[str]
    facts: dict[str, Any]

    @property
    def has_passed(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        return {
            "case": self.case.name,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "has_passed": self.has_passed,
            "problems": self.problems,
            **self.facts,
        }


def why_unavailable() -> str:
    """Why this cannot be run here; empty when it can."""
    return volumes.why_unavailable() or injection.why_unavailable()


def run_case(case: Case, seed: int, directory: Path) -> Verdict:
    """One case on a fresh cluster in `directory`, which is removed if all held."""
    begin = time.monotonic()
    rig = Rig(directory, thin=case.thin, options=case.options)
    history, ledger = History(), Ledger()
    problems: list[str] = []
    facts: dict[str, Any] = {}
    try:
        rig.start()
        rig.cluster.nodes[rig.cluster.leader()].call(
            "POST", "/db/execute", [*SCHEMA, *PADDING_SCHEMA]
        )
        asyncio.run(_under_load(case, rig, history, ledger, seed, problems, facts))
        rig.cluster.wait_ready(SETTLE_S)
        problems += _content(rig, ledger)
        # What a failing disk has cost the kernel's memory is missed by the next process only.
        rig.cluster.kill_all()
        rig.cluster.start(SETTLE_S)
        problems += _content(rig, ledger)
        for site in rig.sites:
            site.node.request("POST", "/snapshot", timeout_s=SETTLE_S)
        rig.cluster.kill_all()
        problems += differences([site.node.directory for site in rig.sites])
    except (ClusterError, OSError, http.client.HTTPException) as error:
        problems.append(str(error) or repr(error))
    finally:
        rig.close()
    problems += history.violations + register_problems(history)
    facts["acknowledged"] = history.acknowledged()
    verdict = Verdict(case, seed, time.monotonic() - begin, problems, facts)
    if verdict.has_passed:
        rig.remove()
    else:
        history.write(directory / "history.jsonl")
    return verdict


async def _under_load(
    case: Case,
    rig: Rig,
    history: History,
    ledger: Ledger,
    seed: int,
    problems: list[str],
    facts: dict[str, Any],
) -> None:
    urls = [site.node.http_url for site in rig.sites]
    async with Api(urls) as api, Api(urls) as probing:
        clients = Clients(api, history, ledger, seed)
        prober = Prober(probing, history.now)
        run = Run(case, rig, clients, prober, random.Random(seed))
        loads = [asyncio.create_task(client) for client in [*clients.run(), pad(clients)]]
        watchers = [asyncio.create_task(rig.supervise()), asyncio.create_task(prober.run())]
        try:
            await run.carry_out()
        except ClusterError as error:
            run.problems.append(str(error))
        finally:
            clients.stop.set()
            for task in watchers:
                task.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)
            await asyncio.gather(*loads)
            problems += run.problems
            facts |= run.facts


def _content(rig: Rig, ledger: Ledger) -> list[str]:
    """All nodes hold the same, by the cluster's own word, and what the clients were told."""
    rig.cluster.wait_applied(timeout_s=SETTLE_S)
    problems = []
    node = rig.sites[0].node
    status, content = node.request("POST", "/verify", timeout_s=SETTLE_S)
    report = json.loads(content) if status == 200 else {}
    if not (report.get("agreed") and report.get("complete")):
        problems.append(f"POST /verify answered {status}: {content.decode(errors='replace')}")
    for site in rig.sites:
        path = "/db/query?level=none"
        queries = [*CONTENT_QUERIES, PADDING_QUERY]
        *content, padded = site.node.call("POST", path, queries, timeout_s=SETTLE_S)["results"]
        found = content_problems(ledger, content)
        if len(set(padded["values"][0])) != 1:
            found.append(f"half a transaction is there: {padded}")
        problems += [f"node {site.node.index}: {one}" for one in found]
    return problems


def write_results(directory: Path, command: str, verdicts: Sequence[Verdict]) -> None:
    """`disks.json` and `disks.md`."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {
        "command": command,
        "machine": machine(),
        "cases": [verdict.as_json() for verdict in verdicts],
    }
    (directory / "disks.json").write_text(json.dumps(content, indent=2) + "\n")
    lines = [
        "# Disks",
        "",
        f"`{command}` on {', '.join(f'{k} {v}' for k, v in machine().items())}. Three nodes, each "
        "with a file system of its own for its log and one for its database, under load.",
        "",
        "| case | acknowledged | leadership moved | others went on | all back | result |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in verdicts:
        facts = one.facts
        others = max((facts[name] for name in facts if name in OTHERS_WENT_ON), default=None)
        lines.append(
            f"| `{one.case.name}` | {facts.get('acknowledged', 0)} "
            f"| {_seconds(facts.get('leadership moved s'))} | {_seconds(others)} "
            f"| {_seconds(facts.get('recovery s'))} "
            f"| {'passed' if one.has_passed else 'FAILED'} |"
        )
    lines += ["", CHECKED, ""]
    for one in verdicts:
        lines += [f"- `{one.case.name}`: {text.splitlines()[0]}" for text in one.problems]
    (directory / "disks.md").write_text("\n".join(lines).rstrip() + "\n")


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"


def _interrupted(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--only", action="append", default=[], help="patterns of cases' names")
    parser.add_argument("--seed", type=int, help="of clients and choices; default: a new one")
    parser.add_argument("--results", type=Path, help="write disks.json and disks.md there")
    parser.add_argument("--directory", type=Path, help="where data goes; default: a temporary one")
    parser.add_argument("--list", action="store_true", help="say which cases there are")
    arguments = parser.parse_args()
    cases = [
        case
        for case in all_cases()
        if not arguments.only or any(fnmatch.fnmatch(case.name, one) for one in arguments.only)
    ]
    if arguments.list:
        say("\n".join(case.name for case in cases))
        return 0
    if reason := why_unavailable():
        say(f"this cannot be run here: {reason}")
        return UNAVAILABLE
    signal.signal(signal.SIGTERM, _interrupted)  # what is mounted must not stay so
    seed = arguments.seed if arguments.seed is not None else secrets.randbelow(1_000_000)
    verdicts = []
    for case in cases:
        directory = Path(tempfile.mkdtemp(prefix="rsqlite-disks-", dir=arguments.directory))
        verdict = run_case(case, seed, directory)
        verdicts.append(verdict)
        say(f"{'passed' if verdict.has_passed else 'FAILED'}  {case.name}  {verdict.seconds:.0f} s")
        if not verdict.has_passed:
            say(json.dumps(verdict.as_json(), indent=2))
            say(f"kept: {directory}")
        if arguments.results:
            command = " ".join(["python", "tests/e2e/disks.py", *sys.argv[1:]])
            write_results(arguments.results, command, verdicts)
    has_passed = bool(verdicts) and all(verdict.has_passed for verdict in verdicts)
    say(f"{sum(one.has_passed for one in verdicts)} of {len(verdicts)} cases passed, seed {seed}")
    return 0 if has_passed else 1


if __name__ == "__main__":
    sys.exit(main())

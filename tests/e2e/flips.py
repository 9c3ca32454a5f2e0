"""Acceptance of flipped bits: in any file of a stopped node one bit is changed, at random, and the
node is started again while the others serve and writes go on.

    python tests/e2e/flips.py --count 1000 [--seed 7] [--results DIR]

Three real processes with small log segments, a database of some MB, and a WAL, for most stops are
kills. The nodes take turns. A node that was started on its damaged files must

- never answer with anything but what was written (asked all the time, at level none);
- come back to health by itself, and after a scrub find nothing wrong any more;
- have every acknowledged write;
- have said what was wrong, and where, unless the bit is provably of no meaning (`places.py`), or in
  a database that an image replaced before anybody read it;
- never take damage of the log for a torn tail.

In the end, and now and then, all nodes hold the same content. The table says what came of it, by
what was hit. The exit code is 0 only if all held.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import random
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from rsqlite.testing.cluster import ClusterError, ProcessCluster, ProcessNode  # noqa: E402
from tests.e2e.accept import machine, say  # noqa: E402
from tests.e2e.calls import execute  # noqa: E402
from tests.e2e.files import differences  # noqa: E402
from tests.e2e.places import Place, choose  # noqa: E402

SMALL = (sys.executable, str(Path(__file__).with_name("as_small.py")))
OPTIONS = (
    *("-raft-snap", "64", "-raft-snap-int", "100ms", "-log-keep-bytes", "512KiB"),
    *("-join-interval", "200ms", "-disk-reserve-bytes", "1MiB"),
    *("-scrub-interval", "0", "-scrub-bytes-per-second", "1GiB", "-verify-interval", "0"),
)
ROWS = 700
REPEATS = 300
HEALTHY_S = 90.0
"""A node is back in so long, or something is wrong."""
VERIFY_EVERY = 25
CLEAN_STOP_SHARE = 0.1
WRITE_PAUSE_S = 0.01
OUTCOMES = {
    "identity given up": "another node",
    "database set aside": "database fetched",
    "it was written again": "written again",
    "and the WAL was set aside": "WAL set aside",
    "the log has what is missing": "had from the log",
    "the log has it as well": "had from the log",
    "the other is used": "other copy used",
    "a durable mark is unreadable": "hint lost",
    "the log will begin behind it": "log let go",
    "the log begins behind it": "log let go",
    "torn write": "torn tail cut",
}
"""What a node says, and what that is called in the table; the first that fits."""


@dataclass(slots=True)
class Trial:
    """One flipped bit, and what came of it."""

    number: int
    node: int
    place: Place
    is_clean_stop: bool
    outcome: str = ""
    seconds: float = 0.0
    answers: int = 0
    """Reads that the node answered before it was healthy, all of them right."""

    def as_json(self, directory: Path) -> dict[str, Any]:
        return {
            "number": self.number,
            "node": self.node,
            "file": str(self.place.path.relative_to(directory)),
            "byte": self.place.offset,
            "bit": self.place.bit,
            "kind": self.place.kind,
            "idle": self.place.idle,
            "clean_stop": self.is_clean_stop,
            "outcome": self.outcome,
            "seconds": round(self.seconds, 2),
            "answers": self.answers,
        }


def text_of(one: int) -> str:
    return f"{one:08d}" * REPEATS


class Writer(threading.Thread):
    """Inserts one number after the other until each is acknowledged, through whoever is up."""

    def __init__(self, cluster: ProcessCluster) -> None:
        super().__init__(name="writer")
        self._cluster = cluster
        self._ended = threading.Event()
        self.acknowledged = 0
        """All up to here."""

    def run(self) -> None:
        turn = 0
        while not self._ended.is_set():
            turn += 1
            number = self.acknowledged + 1
            nodes = self._cluster.running()
            if not nodes:
                continue
            statement = ["INSERT OR IGNORE INTO w VALUES(?, ?)", number, 7 * number]
            try:
                status, body = nodes[turn % len(nodes)].request(
                    "POST", "/db/execute?timeout=2s", [statement], timeout_s=5.0
                )
            except (OSError, http.client.HTTPException):
                continue
            if status == 200 and b'"error"' not in body:
                self.acknowledged = number
            self._ended.wait(WRITE_PAUSE_S)

    def stop(self) -> None:
        self._ended.set()
        self.join()


class Flips:
    """A cluster and the trials on it."""

    def __init__(self, cluster: ProcessCluster, seed: int) -> None:
        self.cluster = cluster
        self.chance = random.Random(seed)
        self.trials: list[Trial] = []
        self.problems: list[str] = []
        self.writer = Writer(cluster)
        self.killed = 0
        """Processes that somebody else has ended."""

    def prepare(self) -> None:
        """Rows that nobody touches again, and a table that grows."""
        node = self.cluster.nodes[0]
        execute(
            node,
            "CREATE TABLE t(id INTEGER PRIMARY KEY, v)",
            "CREATE INDEX i ON t(v)",
            "CREATE TABLE w(id INTEGER PRIMARY KEY, v)",
        )
        for first in range(0, ROWS, 100):
            rows = [
                ["INSERT INTO t VALUES(?, ?)", n, text_of(n)] for n in range(first, first + 100)
            ]
            execute(node, *rows)
        self.cluster.wait_applied()

    def run(self, count: int) -> None:
        """So many trials, or until one shows that a promise was broken."""
        self.prepare()
        self.writer.start()
        try:
            for number in range(count):
                self.trial(number)
                if self.problems:
                    return
                if number % VERIFY_EVERY == VERIFY_EVERY - 1:
                    self.verify()
                    say(f"{number + 1} flips, {self.writer.acknowledged} writes")
        finally:
            self.writer.stop()
        self.end()

    def trial(self, number: int) -> None:
        node = self.cluster.nodes[number % len(self.cluster.nodes)]
        is_clean = self.chance.random() < CLEAN_STOP_SHARE
        if is_clean:
            node.terminate()
        else:
            node.kill()
        place = choose(node.directory, self.chance)
        trial = Trial(number, node.index, place, is_clean)
        self.trials.append(trial)
        place.flip()
        printed = node.log_path.stat().st_size
        began = time.monotonic()
        node.start()
        try:
            self.wait_healthy(node, trial, began + HEALTHY_S)
            self.check_rows(node, began + HEALTHY_S)
        except (ClusterError, OSError, http.client.HTTPException) as error:
            self.problems.append(f"flip {number}, {place}: {error}")
            return
        trial.seconds = time.monotonic() - began
        with node.log_path.open("rb") as log:
            log.seek(printed)
            self.judge(trial, log.read().decode(errors="replace"))

    def wait_healthy(self, node: ProcessNode, trial: Trial, deadline: float) -> None:
        """Until it serves, has caught up, and a scrub has nothing more to say. Meanwhile every
        answer must be right."""
        while True:
            self.restart_killed()
            if time.monotonic() > deadline:
                raise ClusterError(f"not healthy within {HEALTHY_S} s\n{node.log_tail(60)}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                trial.answers += self.ask(node)
                if (
                    node.request("GET", "/readyz?sync&timeout=2s")[0] == 200
                    and all(map(has_settled, self.cluster.nodes))
                    and scrubbed(node)
                ):
                    return
            time.sleep(0.02)

    def restart_killed(self) -> None:
        """A process that was killed is started again: nobody does that to itself, and on a machine
        with others it happens. Any other end is one of its own, and an error."""
        for node in self.cluster.nodes:
            if node.process is not None and node.process.poll() == -signal.SIGKILL:
                node.wait_exit()
                node.start()
                self.killed += 1
            node.check_alive()

    def ask(self, node: ProcessNode) -> int:
        """Rows at level none: answered rightly (1), or not at all (0)."""
        one = self.chance.randrange(ROWS)
        statements = [["SELECT v FROM t WHERE id = ?", one], ["SELECT count(*), max(id) FROM w"]]
        status, body = node.request("POST", "/db/query?level=none", statements, timeout_s=2.0)
        if status != 200:
            return 0
        results = json.loads(body)["results"]
        if any("error" in result for result in results):
            return 0
        (row,), ((count, newest),) = (result.get("values", []) for result in results)
        if row != [text_of(one)] or count != (newest or 0):
            raise ClusterError(f"wrong content was served: {one} is {row}, {count} up to {newest}")
        return 1

    def check_rows(self, node: ProcessNode, deadline: float) -> None:
        """Everything that it must have."""
        acknowledged = self.writer.acknowledged
        sql = "SELECT count(*), sum(v = replace(hex(zeroblob(?)), '00', printf('%08d', id))) FROM t"
        found = self.answer(node, [sql, REPEATS], deadline)
        if found != [[ROWS, ROWS]]:
            raise ClusterError(f"the rows are {found}")
        sql = "SELECT count(*), sum(v = 7 * id) FROM w WHERE id <= ?"
        found = self.answer(node, [sql, acknowledged], deadline)
        if found != [[acknowledged] * 2]:
            raise ClusterError(f"{acknowledged} writes were acknowledged, here are {found}")

    def answer(self, node: ProcessNode, statement: list[Any], deadline: float) -> Any:
        """The rows of a read that must be answered in the end: it may have fallen so far behind
        that an image comes yet."""
        path = "/db/query?level=linearizable&timeout=10s"
        while True:
            self.restart_killed()
            status, body = 503, b"nothing"
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, body = node.request("POST", path, [statement], timeout_s=15.0)
            if status == 200:
                return json.loads(body)["results"][0].get("values", [])
            if status != 503 or time.monotonic() > deadline:
                raise ClusterError(f"a read was answered with {status}: {body!r}")
            time.sleep(0.05)

    def judge(self, trial: Trial, text: str) -> None:
        """Was it said? What came of it?"""
        place = trial.place
        lines = [line for line in text.splitlines() if str(place.path) in line]
        said = [line for line in lines if not json_of(line).get("event", "").startswith("starting")]
        trial.outcome = next(
            (name for words, name in OUTCOMES.items() if any(words in line for line in said)),
            "said" if said else "nothing said",
        )
        if place.idle:
            return
        if not said and '"image installed"' in text and not place.path.exists():
            # It had fallen behind, and another database took the place of this one unread.
            trial.outcome = "replaced by an image"
        elif not said:
            self.problems.append(f"flip {trial.number}, {place}: nothing was said\n{text[-3000:]}")
        if trial.outcome == "torn tail cut":
            self.problems.append(f"flip {trial.number}, {place}: taken for a torn tail")

    def verify(self) -> None:
        """All nodes hold the same as of one entry."""
        deadline = time.monotonic() + HEALTHY_S
        while True:
            self.restart_killed()
            report: dict[str, Any] = {}
            with contextlib.suppress(OSError, http.client.HTTPException, ClusterError):
                node = self.cluster.nodes[0]
                report = node.call("POST", "/verify?timeout=30s", timeout_s=60.0)
            if report.get("agreed") and report.get("complete"):
                return
            differs = any(one["verdict"] == "differs" for one in report.get("nodes", ()))
            if differs or time.monotonic() > deadline:
                self.problems.append(f"the contents differ, or were not compared: {report}")
                return

    def end(self) -> None:
        self.verify()
        self.cluster.wait_applied()
        self.cluster.kill_all()
        self.problems += differences([node.directory for node in self.cluster.nodes])

    def table(self) -> list[str]:
        """By what was hit: how often, what came of it, and how long it took."""
        lines = ["| what was hit | flips | what came of it | s, median | s, most |"]
        lines.append("| --- | ---: | --- | ---: | ---: |")
        kinds = sorted({(bool(trial.place.idle), trial.place.kind) for trial in self.trials})
        for is_idle, kind in kinds:
            found = [
                one
                for one in self.trials
                if (bool(one.place.idle), one.place.kind) == (is_idle, kind)
            ]
            counts = Counter(one.outcome or "failed" for one in found)
            outcomes = ", ".join(f"{name} {count}" for name, count in counts.most_common())
            seconds = [one.seconds for one in found]
            name = f"{kind}: {found[0].place.idle}" if is_idle else kind
            cells = [name, str(len(found)), outcomes]
            cells += [f"{median(seconds):.1f}", f"{max(seconds):.1f}"]
            lines.append(f"| {' | '.join(cells)} |")
        return lines


def has_settled(node: ProcessNode) -> bool:
    """Three voters and nobody else, as this node knows: one that came back as another node has the
    place of the one that it was. Before that, to lose a second one is to lose the majority."""
    members = node.call("GET", "/nodes?ver=2&nonvoters")["nodes"]
    return sorted(one["id"] for one in members if one["voter"]) == ["1", "2", "3"] and (
        len(members) == 3
    )


def scrubbed(node: ProcessNode) -> bool:
    """Let the node read through its disk: is all well? False also if it ended for what it found."""
    rounds = node.call("POST", "/scrub")["rounds"]
    deadline = time.monotonic() + HEALTHY_S
    while time.monotonic() < deadline:
        status = node.call("GET", "/scrub")
        if not status["running"]:
            return bool(status["rounds"] > rounds and not status["problems"])
        time.sleep(0.02)
    return False


def json_of(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


@dataclass(slots=True)
class Run:
    """What is written down of a run."""

    seed: int
    seconds: float
    flips: Flips
    directory: Path
    problems: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        answers = [one.answers for one in self.flips.trials]
        return {
            "machine": machine(),
            "seed": self.seed,
            "seconds": round(self.seconds),
            "flips": len(self.flips.trials),
            "with_meaning": sum(not one.place.idle for one in self.flips.trials),
            "writes_acknowledged": self.flips.writer.acknowledged,
            "right_answers_while_not_healthy": sum(answers),
            "killed_from_outside": self.flips.killed,
            "has_passed": not self.flips.problems,
            "problems": self.flips.problems,
            "table": self.flips.table(),
            "trials": [one.as_json(self.directory) for one in self.flips.trials],
        }

    def write(self, directory: Path) -> None:
        """`flips.json` and `flips.md`."""
        directory.mkdir(parents=True, exist_ok=True)
        value = self.as_json()
        (directory / "flips.json").write_text(json.dumps(value, indent=1) + "\n")
        lines = [
            "# Flipped bits in the files of stopped nodes",
            "",
            f"`python tests/e2e/flips.py --count {value['flips']} --results tests/e2e/results` on"
            f" {', '.join(f'{name} {what}' for name, what in value['machine'].items())}.",
            "",
            f"Seed {self.seed}: {value['flips']} flips in {value['seconds']} s,"
            f" {value['with_meaning']} of them of bits that mean something,"
            f" {value['writes_acknowledged']} writes acknowledged;"
            f" {'passed' if value['has_passed'] else 'FAILED'}.",
            "",
            *value["table"],
            *(f"\n{problem}" for problem in self.flips.problems),
        ]
        (directory / "flips.md").write_text("\n".join(lines) + "\n")


@contextlib.contextmanager
def small_cluster(directory: Path) -> Iterator[ProcessCluster]:
    """Three nodes with small files."""
    with ProcessCluster(3, directory, OPTIONS, python=SMALL) as cluster:
        yield cluster


def run(count: int, seed: int, directory: Path) -> Run:
    began = time.monotonic()
    with small_cluster(directory) as cluster:
        flips = Flips(cluster, seed)
        flips.run(count)
    return Run(seed, time.monotonic() - began, flips, directory)


def main() -> int:
    parser = argparse.ArgumentParser(description="flips bits in the files of stopped nodes")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--results", type=Path, default=None)
    options = parser.parse_args()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    directory = Path(tempfile.mkdtemp(prefix="rsqlite-flips-"))
    say(f"seed {seed}, in {directory}")
    done = run(options.count, seed, directory)
    say("\n".join(done.flips.table()))
    if options.results is not None:
        done.write(options.results)
    for problem in done.flips.problems:
        say(f"BROKEN: {problem}")
    if done.flips.problems:
        say(f"everything is kept in {directory}; again with --seed {seed}")
        return 1
    shutil.rmtree(directory)
    say(f"all held: {len(done.flips.trials)} flips in {done.seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

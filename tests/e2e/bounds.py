"""Acceptance of bounds: what nodes hold in memory and on disk does not grow with their past.

    python tests/e2e/bounds.py [--gigabytes 1] [--writes 5000000] [--minutes 60]
                               [--dead-minutes 10] [--results DIR]

Five parts, one after the other, on one cluster of three processes that is written to all the time,
and looked at every second:

fill     the database grows to its size, in bulk requests.
writes   single inserts until there were so many; what comes together shares an entry of the log.
hour     a steady load.
dead     the same, with one follower killed at the beginning; it comes back in the end.
restart  that follower is stopped, cleanly and by SIGKILL in turns, and started again.

No node may ever hold more than MEMORY_BYTES_MAX of memory, nor, beside a steady load, more than
LOG_BYTES_MAX of log (a disk that is full of work takes its time also for what is removed); while a
follower is dead the leader's memory may grow by GROWTH_BYTES_MAX; a restarted node is ready
within READY_S_MAX, by the median. In the end all acknowledged rows are there, and the nodes agree.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bench.usage import Sizes, sizes_of  # noqa: E402
from rsqlite.config import MIB, Settings  # noqa: E402
from rsqlite.testing.cluster import (  # noqa: E402
    ClusterError,
    NodeState,
    ProcessCluster,
    ProcessNode,
    wait_until,
)
from tests.e2e.accept import conclude, machine, say  # noqa: E402
from tests.e2e.calls import execute, leader_and_followers, query, verify  # noqa: E402
from tests.e2e.files import differences  # noqa: E402
from tests.e2e.load import CREATE, FIRST_ID, LoadProcess, running  # noqa: E402

SETTINGS = Settings()
MEMORY_BYTES_MAX = 150_000_000
LOG_BYTES_MAX = SETTINGS.log_keep_bytes + 3 * SETTINGS.segment_bytes
"""What is kept, the segment in which that begins, the one that is written, and what comes while a
checkpoint is made."""
GROWTH_BYTES_MAX = SETTINGS.log_cache_bytes_max + SETTINGS.inflight_bytes_max
"""The newest entries, and those sent to a follower that does not answer."""
READY_S_MAX = 1.0

ROW_BYTES = 1000
BULK_ROWS = 1000
FAST_CLIENTS = 128
STEADY_CLIENTS, STEADY_PAUSE_S = 16, 0.005
UPKEEP = ("-scrub-interval=5m",)
STEADY_PARTS = ("hour", "alive", "dead")
LOOK_S = 1.0
PROBE_S = 0.005
SETTLE_S = 120.0
FILL_S = 3600.0
LONG_S = 300.0
"""For a read or check of everything."""


class Watch:
    """Looks at all running nodes once a second, from its own thread."""

    def __init__(self, cluster: ProcessCluster) -> None:
        self._cluster = cluster
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._is_over = threading.Event()
        self._most: dict[str, dict[int, Sizes]] = {}
        self.part = "start"

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(LOOK_S):
            for node in self._cluster.nodes:
                if node.state is NodeState.RUNNING:
                    self._look(node)

    def _look(self, node: ProcessNode) -> None:
        try:
            sizes = sizes_of(node.pid, node.directory)
        except FileNotFoundError:
            return  # it has just ended
        most = self._most.setdefault(self.part, {})
        before = most.get(node.index, sizes)
        most[node.index] = Sizes(
            memory_bytes=max(before.memory_bytes, sizes.memory_bytes),
            log_bytes=max(before.log_bytes, sizes.log_bytes),
            wal_bytes=max(before.wal_bytes, sizes.wal_bytes),
            database_bytes=max(before.database_bytes, sizes.database_bytes),
        )

    def summary(self) -> dict[str, dict[str, int]]:
        """The most of each part, whichever node held it."""
        return {
            part: {
                "memory_bytes": max(one.memory_bytes for one in most.values()),
                "log_bytes": max(one.log_bytes for one in most.values()),
                "wal_bytes": max(one.wal_bytes for one in most.values()),
                "database_bytes": max(one.database_bytes for one in most.values()),
            }
            for part, most in self._most.items()
        }

    def of(self, part: str, node: ProcessNode) -> Sizes:
        return self._most[part][node.index]


class Bounds:
    """One run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.cluster = ProcessCluster(3, directory, [f"-read-time-max={LONG_S:.0f}s", *UPKEEP])
        self.watch = Watch(self.cluster)
        self.problems: list[str] = []
        self.found: dict[str, Any] = {}
        self._loads: list[LoadProcess] = []
        self._next_id = FIRST_ID
        self._bulk_rows = 0

    def run(self, arguments: argparse.Namespace) -> dict[str, Any]:
        begin = time.monotonic()
        try:
            self.cluster.start(SETTLE_S)
            leader, _ = leader_and_followers(self.cluster)
            execute(leader, CREATE, "CREATE TABLE big(id INTEGER PRIMARY KEY, v TEXT)")
            with self.watch:
                self._parts(arguments)
            self._finish()
        except (ClusterError, OSError) as error:
            self.problems.append(str(error))
        finally:
            self.cluster.close()
        most = self.watch.summary()
        for part, one in most.items():
            if one["memory_bytes"] > MEMORY_BYTES_MAX:
                self.problems.append(f"{part}: a node held {one['memory_bytes']} bytes of memory")
            if part in STEADY_PARTS and one["log_bytes"] > LOG_BYTES_MAX:
                self.problems.append(f"{part}: a node held {one['log_bytes']} bytes of log")
        return {
            "seconds": round(time.monotonic() - begin, 1),
            "bounds": {
                "memory_bytes": MEMORY_BYTES_MAX,
                "log_bytes": LOG_BYTES_MAX,
                "growth_bytes": GROWTH_BYTES_MAX,
                "ready_s": READY_S_MAX,
            },
            "most": most,
            **self.found,
            "acknowledged": sum(len(load.acknowledged.ids) for load in self._loads),
            "problems": self.problems,
        }

    def _parts(self, arguments: argparse.Namespace) -> None:
        self._begin("fill")
        self._fill(int(arguments.gigabytes * 1e9))
        self._begin("writes")
        with self._load(FAST_CLIENTS, 0.0):
            wait_until(
                lambda: self._written() >= arguments.writes,
                FILL_S,
                lambda: f"{arguments.writes} writes",
            )
        self._begin("hour")
        with self._load(STEADY_CLIENTS, STEADY_PAUSE_S):
            self._pass(arguments.minutes)
        self._dead(arguments.dead_minutes)
        self._begin("restart")
        self._restarts(arguments.restarts)

    def _begin(self, part: str) -> None:
        self.watch.part = part
        say(f"{part}, {json.dumps(self.watch.summary())}")

    def _pass(self, minutes: float) -> None:
        """The nodes must not end by themselves meanwhile."""
        deadline = time.monotonic() + minutes * 60
        while time.monotonic() < deadline:
            time.sleep(LOOK_S)
            for node in self.cluster.nodes:
                if node.state is NodeState.RUNNING:
                    node.check_alive()

    @contextmanager
    def _load(self, clients: int, pause_s: float) -> Iterator[None]:
        leader, _ = leader_and_followers(self.cluster)
        out = self.directory / f"load-{len(self._loads)}"
        load = LoadProcess(
            leader.http_url, out, clients=clients, pause_s=pause_s, first=self._next_id
        )
        with running(load):
            yield
            load.stop()
        self._next_id += load.sent
        self._loads.append(load)

    def _written(self) -> int:
        leader, _ = leader_and_followers(self.cluster)
        ((newest,),) = query(leader, "SELECT max(id) FROM load", flags="level=none")
        return 0 if newest is None else int(newest) - FIRST_ID

    def _fill(self, size: int) -> None:
        leader, _ = leader_and_followers(self.cluster)
        text = "x" * ROW_BYTES
        while self._bulk_rows * ROW_BYTES < size:
            first = self._bulk_rows
            rows = [[number, text] for number in range(first, first + BULK_ROWS)]
            statement = ["INSERT INTO big(id,v) VALUES(?,?)"]
            body = [[*statement, *row] for row in rows]
            answer = leader.call("POST", "/db/execute?transaction", body, timeout_s=60.0)
            if any("error" in one for one in answer["results"]):
                raise ClusterError(f"a bulk request was answered {answer}")
            self._bulk_rows += BULK_ROWS

    def _dead(self, minutes: float) -> None:
        """Under load with a follower that does not come back for so long."""
        leader, (follower, _) = leader_and_followers(self.cluster)
        self._begin("alive")
        with self._load(STEADY_CLIENTS, STEADY_PAUSE_S):
            self._pass(minutes / 10)
        self._begin("dead")
        follower.kill()
        with self._load(STEADY_CLIENTS, STEADY_PAUSE_S):
            self._pass(minutes)
        before, after = self.watch.of("alive", leader), self.watch.of("dead", leader)
        growth = after.memory_bytes - before.memory_bytes
        self.found["growth_with_dead_follower_bytes"] = growth
        if growth > GROWTH_BYTES_MAX:
            self.problems.append(f"the leader's memory grew by {growth} bytes")
        self._begin("back")
        follower.start()
        self.cluster.wait_ready(SETTLE_S)
        self.cluster.wait_applied(timeout_s=LONG_S)

    def _restarts(self, times: int) -> None:
        """A follower's, with everything behind it."""
        _, (follower, _) = leader_and_followers(self.cluster)
        taken: dict[str, list[float]] = {"SIGTERM": [], "SIGKILL": []}
        for _ in range(times):
            for way, seconds in taken.items():
                with self._load(STEADY_CLIENTS, STEADY_PAUSE_S):
                    self._pass(0.1)
                    follower.terminate() if way == "SIGTERM" else follower.kill()
                begin = time.monotonic()
                follower.start()
                while not follower.is_ready():
                    follower.check_alive()
                    time.sleep(PROBE_S)
                seconds.append(round(time.monotonic() - begin, 3))
                self.cluster.wait_applied(timeout_s=SETTLE_S)
        self.found["ready_s"] = taken
        for way, seconds in taken.items():
            if seconds and median(seconds) > READY_S_MAX:
                self.problems.append(f"ready {median(seconds)} s after {way}, by the median")

    def _finish(self) -> None:
        self.cluster.wait_applied(timeout_s=SETTLE_S)
        leader, _ = leader_and_followers(self.cluster)
        self.found["entries"] = int(leader.raft_status()["last_log_index"])
        flags = f"level=linearizable&timeout={LONG_S:.0f}s"
        ((count,),) = query(leader, "SELECT count(*) FROM load", flags=flags)
        told = sum(len(load.acknowledged.ids) for load in self._loads)
        sent = self._next_id - FIRST_ID
        if not told <= count <= sent:
            self.problems.append(f"{count} rows, of {told} acknowledged and {sent} sent")
        if (big := query(leader, "SELECT count(*) FROM big", flags=flags)) != [[self._bulk_rows]]:
            self.problems.append(f"{big} rows in bulk, and not {self._bulk_rows}")
        code, text = verify(leader)
        if code != 0:
            self.problems.append(f"the nodes do not agree\n{text}")
        self.cluster.kill_all()  # a clean stop hands over, and the next leader writes an entry
        self.problems += differences([node.directory for node in self.cluster.nodes])


def write_results(directory: Path, command: Sequence[str], found: dict[str, Any]) -> None:
    """`bounds.json` and `bounds.md`."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {"command": " ".join(command), "machine": machine(), **found}
    (directory / "bounds.json").write_text(json.dumps(content, indent=2) + "\n")
    bounds = found["bounds"]
    lines = [
        "# Bounds: what nodes hold",
        "",
        f"`{content['command']}` on {', '.join(f'{k} {v}' for k, v in machine().items())}.",
        "",
        "The most that any node held in each part, in MB; looked at once a second.",
        "",
        "| part | memory | log | WAL | database |",
        "| --- | --- | --- | --- | --- |",
    ]
    for part, one in found["most"].items():
        cells = (one["memory_bytes"], one["log_bytes"], one["wal_bytes"], one["database_bytes"])
        lines.append(f"| {part} | " + " | ".join(f"{cell / 1e6:.0f}" for cell in cells) + " |")
    lines += [
        f"| bound | {bounds['memory_bytes'] / 1e6:.0f} | {bounds['log_bytes'] / 1e6:.0f} | | |",
        "",
        f"{found['acknowledged']} single writes, in {found.get('entries')} entries."
        f" With a dead follower the leader's memory grew by"
        f" {found.get('growth_with_dead_follower_bytes', 0) / 1e6:.1f} MB"
        f" (bound {bounds['growth_bytes'] / MIB:.0f} MiB).",
        "",
    ]
    for way, seconds in found.get("ready_s", {}).items():
        lines.append(f"Ready after {way}: median {median(seconds):.2f} s of {sorted(seconds)}.")
    verdict = "FAILED" if found["problems"] else "passed"
    lines += ["", f"All acknowledged rows are there. Result: {verdict}.", ""]
    lines += [f"- {problem.splitlines()[0]}" for problem in found["problems"]]
    (directory / "bounds.md").write_text("\n".join(lines).rstrip() + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of the database")
    parser.add_argument(
        "--writes", type=int, default=5_000_000, help="single ones, before the hour"
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="of steady load")
    parser.add_argument("--dead-minutes", type=float, default=10.0, help="with a dead follower")
    parser.add_argument("--restarts", type=int, default=5, help="of each kind")
    parser.add_argument("--results", type=Path, help="write bounds.json and bounds.md there")
    parser.add_argument("--directory", type=Path, help="where data goes")
    arguments = parser.parse_args()
    name = f"rsqlite-bounds-{secrets.token_hex(2)}-"
    directory = Path(tempfile.mkdtemp(prefix=name, dir=arguments.directory))
    say(f"in {directory}")
    found = Bounds(directory).run(arguments)
    say(json.dumps(found, indent=2))
    if arguments.results:
        write_results(arguments.results, ["python", "tests/e2e/bounds.py", *sys.argv[1:]], found)
    return conclude(directory, found["problems"])


if __name__ == "__main__":
    sys.exit(main())

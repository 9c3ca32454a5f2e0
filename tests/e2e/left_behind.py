"""Three nodes of which one is left behind again and again, and comes back by an image."""

from __future__ import annotations

import http.client
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import apsw

from rsqlite.testing.cluster import (
    ClusterError,
    NodeState,
    ProcessCluster,
    ProcessNode,
    wait_for,
    wait_until,
)
from tests.e2e.calls import execute, query, verify
from tests.e2e.files import database_path, differences
from tests.e2e.load import CREATE, FIRST_ID, LoadProcess, running
from tests.e2e.relay import Relay, Relays

BULK_ROWS = 1000
BULK_TIMEOUT_S = 60.0
COME_BACK_S = 300.0
"""For an image of some hundred MB on a busy machine; a minute is much when it is idle."""
LEFTOVERS_S = 150.0
"""Images are kept for two minutes after somebody fetched of them."""
REPLACE = "INSERT OR REPLACE INTO big(id,v) VALUES(?,?)"


class LeftBehind:
    """The cluster, and what is done to it. `receiver` is the node that is left behind; the other
    two lead in turns, for a leader that has made an image keeps its log behind it for a minute."""

    def __init__(
        self,
        directory: Path,
        *,
        rows: int,
        row_bytes: int,
        chance: random.Random,
        options: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.cluster = ProcessCluster(3, directory, options)
        self.rows = rows
        self._row_bytes = row_bytes
        self._chance = chance
        self._next_row = 0
        self._relays: dict[int, Relay] = {}
        self._loads: list[LoadProcess] = []
        self._next_id = FIRST_ID
        self.receiver = self.cluster.nodes[0]
        self.problems: list[str] = []

    def start(self) -> None:
        """Form the cluster, without any rows yet."""
        self.cluster.start(60.0)
        leader = self.leader()
        self.receiver = next(node for node in self.cluster.nodes if node is not leader)
        execute(leader, CREATE, "CREATE TABLE big(id INTEGER PRIMARY KEY, v TEXT)")

    def leader(self) -> ProcessNode:
        return self.cluster.nodes[self.cluster.leader()]

    @property
    def sources(self) -> list[ProcessNode]:
        return [node for node in self.cluster.nodes if node is not self.receiver]

    # Falling behind

    def leave_behind(self, *, rows: int = 0) -> None:
        """Stop the receiver, and write `rows` at least, until nobody's log has its next entry."""
        self._let_go_of_images()
        position = int(self.receiver.raft_status()["last_log_index"]) + 1
        if self._chance.random() < 0.5:
            self.receiver.kill()
        else:
            self.receiver.terminate()
        self.write_rows(rows)

        def is_cut() -> bool:
            first = [int(node.raft_status()["first_log_index"]) for node in self.sources]
            if min(first) > position:
                return True
            self.write_rows(10 * BULK_ROWS)
            for node in self.sources:
                node.request("POST", "/snapshot", timeout_s=BULK_TIMEOUT_S)
            return False

        wait_until(is_cut, COME_BACK_S, lambda: f"the logs to be cut behind {position}")

    def write_rows(self, count: int) -> None:
        """Bulk requests, over the rows from the first on again when all are there."""
        for _ in range(0, count, BULK_ROWS):
            first = self._next_row
            self._next_row = (first + BULK_ROWS) % self.rows
            text = f"{self._chance.getrandbits(64):020d}" * (self._row_bytes // 20)
            statements = [
                [REPLACE, number, f"{number} {text}"] for number in range(first, first + BULK_ROWS)
            ]
            wait_for(
                lambda statements=statements: self._bulk(statements),
                BULK_TIMEOUT_S,
                lambda: "a bulk request to be answered",
            )

    def _bulk(self, statements: list[Any]) -> bool | None:
        """None: not this time, it may be sent again (the leader may be changing)."""
        try:
            status, content = self.sources[0].request(
                "POST", "/db/execute", statements, timeout_s=BULK_TIMEOUT_S
            )
        except (OSError, http.client.HTTPException):
            return None
        if status != 200:
            return None
        if errors := [one for one in json.loads(content)["results"] if "error" in one]:
            raise ClusterError(f"a bulk request was answered {errors[:3]}")
        return True

    def _let_go_of_images(self) -> None:
        """The leader hands over and starts again if it has an image, for it would keep its log."""
        leader = self.leader()
        if leader is not self.receiver and not names_in(leader.directory / "images"):
            return
        other = next(node for node in self.sources if node is not leader)
        wait_until(lambda: self._transfer_to(other), COME_BACK_S, other.log_tail)
        for node in self.sources:
            if node is not other and names_in(node.directory / "images"):
                node.terminate()
                node.start()
        self.cluster.wait_ready(60.0)
        self.cluster.wait_applied(timeout_s=COME_BACK_S)

    def _transfer_to(self, node: ProcessNode) -> bool:
        if self.leader() is node:
            return True
        self.leader().request("POST", "/leader", {"id": node.label})
        return self.leader() is node

    # Coming back

    def wait_level(self) -> None:
        """Return when the receiver is ready, and every node has applied all that was committed."""
        self.receiver.wait_ready(COME_BACK_S)
        self.cluster.wait_ready(60.0)
        self.cluster.wait_applied(timeout_s=COME_BACK_S)

    def check(self, what: str) -> None:
        """The receiver has what the others have, and nothing else is left of how it came by it."""
        for problem in leftovers(self.receiver.directory, ("incoming",)):
            self.problems.append(f"{what}: {problem}")
        code, text = verify(self.leader())
        if code != 0:
            self.problems.append(f"{what}: the nodes do not agree\n{text}")

    # Relays

    def use_relays(self, relays: Relays) -> None:
        """Every node is reached through a relay from its next start on, which is now if it runs."""
        for node in sorted(self.cluster.nodes, key=lambda one: one is not self.receiver):
            relay = self._relays[node.index] = relays.before(node.raft_port)
            node.options += ["-raft-adv-addr", relay.address]
            if node.state is NodeState.RUNNING:
                node.terminate()
                node.start()
                self._wait_known(node, relay.address)

    def _wait_known(self, node: ProcessNode, address: str) -> None:
        node.wait_ready(60.0)
        leader = self.leader()

        def is_known() -> bool:
            return bool(leader.call("GET", "/nodes")[node.label]["addr"] == address)

        wait_until(is_known, 60.0, node.log_tail)
        self.cluster.wait_applied(timeout_s=COME_BACK_S)

    def relay_of(self, node: ProcessNode) -> Relay:
        return self._relays[node.index]

    # The load beside it

    @contextmanager
    def load(self, *, clients: int, pause_s: float = 0.0) -> Iterator[LoadProcess]:
        """A load on one of the sources; what was acknowledged is in the table in the end."""
        node = self.leader() if not pause_s else self.sources[0]
        out = self.directory / f"load-{len(self._loads)}"
        load = LoadProcess(
            node.http_url, out, clients=clients, pause_s=pause_s, first=self._next_id
        )
        with running(load):
            yield load
            load.stop()
        self._next_id += load.sent
        self._loads.append(load)

    @property
    def acknowledged(self) -> int:
        return sum(len(load.acknowledged.ids) for load in self._loads)

    # The end

    def finish(self, *, is_lean: bool = True) -> None:
        """Everything is level, and lean after a while; then the files of the stopped nodes are
        compared."""
        self.wait_level()
        directories = [node.directory for node in self.cluster.nodes]

        def lean() -> list[str]:
            return [text for path in directories for text in leftovers(path)]

        try:
            if is_lean:
                wait_until(lambda: not lean(), LEFTOVERS_S, lambda: f"none to be left: {lean()}")
        except ClusterError as error:
            self.problems.append(str(error))
        counted = query(self.leader(), "SELECT count(*) FROM big")
        if counted != [[self.rows]]:
            self.problems.append(f"big has {counted} rows, not {self.rows}")
        self.check("at the end")
        self.cluster.kill_all()  # a clean stop hands over, and the next leader writes an entry
        self.problems += differences(directories)
        for path in directories:
            self.problems += [f"{path.name}: {text}" for text in self._lost(path)]

    def _lost(self, directory: Path) -> list[str]:
        connection = apsw.Connection(str(database_path(directory)))
        try:
            there = {row[0] for row in connection.execute("SELECT id FROM load")}
        finally:
            connection.close()
        told = {number for load in self._loads for number in load.acknowledged.ids}
        found = []
        if lost := told - there:
            found.append(f"{len(lost)} acknowledged rows are missing: {sorted(lost)[:10]}")
        if alien := [one for one in there if not FIRST_ID <= one < self._next_id]:
            found.append(f"{len(alien)} rows that nobody sent: {sorted(alien)[:10]}")
        return found


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []


def leftovers(directory: Path, folders: Sequence[str] = ("incoming", "images")) -> list[str]:
    """What an installation should not leave in a data directory."""
    found = []
    for folder in folders:
        if names := names_in(directory / folder):
            found.append(f"{directory.name}/{folder} holds {names}")
    current = database_path(directory).parent.name
    if names_in(directory / "db") != sorted([current, "CURRENT"]):
        found.append(f"{directory.name}/db holds {names_in(directory / 'db')}, {current} is in use")
    return found


def events(node: ProcessNode, since: float) -> dict[str, tuple[float, dict[str, Any]]]:
    """The last log line of each event since a moment, with its time."""
    found = {}
    for line in node.log_path.read_text(errors="replace").splitlines():
        if not line.startswith("{"):
            continue
        event = json.loads(line)
        at = datetime.fromisoformat(event["timestamp"]).timestamp()
        if at >= since:
            found[event["event"]] = (at, event)
    return found


def wait_event(node: ProcessNode, event: str, since: float, timeout_s: float) -> float:
    """When a node logged this, waited for."""

    def look() -> float | None:
        seen = events(node, since).get(event)
        return None if seen is None else seen[0]

    return wait_for(look, timeout_s, lambda: f"{event}\n{node.log_tail()}", node.check_alive)

"""Three real nodes, each with volumes of its own for its log and for its database, and somebody who
asks each of them again and again how it is."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rsqlite.config import MIB
from rsqlite.testing.cluster import ClusterError, NodeState, ProcessCluster, ProcessNode
from tests.e2e.api import Api
from tests.e2e.clients import INSERT, Clients
from tests.e2e.files import database_path
from tests.e2e.volumes import Volume

NODES = 3
VOLUME_BYTES = 100 * MIB
UNDER_BYTES = 64 * MIB
"""What lies under a thin volume of `VOLUME_BYTES`, so it can be promised more than there is."""
RESERVE_BYTES = 8 * MIB
OPTIONS = ("-disk-reserve-bytes", str(RESERVE_BYTES), "-log-keep-bytes", str(16 * MIB))
LOG, DATABASE = "log", "database"
PROBE_PAUSE_S = 0.05
SUPERVISOR_PAUSE_S = 0.2
POLL_S = 0.02


@dataclass(slots=True)
class Site:
    """A node with its volumes. The database's is mounted at the data directory, the log's at `log`
    in it; what lies under a thin one is `under`."""

    node: ProcessNode
    volumes: dict[str, Volume]
    under: Volume | None = None

    def close(self) -> None:
        for volume in (self.volumes[LOG], self.volumes[DATABASE], self.under):
            if volume is not None:
                volume.unmount()


class Rig:
    """The cluster on its volumes. A node that ends is started again by `supervise`, as by any
    supervisor; its exit codes are kept."""

    def __init__(self, directory: Path, *, thin: str = "", options: Sequence[str] = ()) -> None:
        """`thin` names the volume of each node that is to be a thin one."""
        self.directory = directory
        self.cluster = ProcessCluster(NODES, directory, [*OPTIONS, *options])
        self.sites: list[Site] = []
        self.exits: list[tuple[int, int]] = []
        self.is_supervised = True
        self._thin = thin

    def start(self) -> None:
        for node in self.cluster.nodes:
            self.sites.append(self._site(node))
        self.cluster.start(60.0)

    def _site(self, node: ProcessNode) -> Site:
        images = self.directory / "images"
        under = None
        if self._thin:
            point = self.directory / f"under-{node.index}"
            under = Volume(images / f"under-{node.index}", point, UNDER_BYTES)
            under.make()
        site = Site(node, {}, under)
        points = {DATABASE: node.directory, LOG: node.directory / "log"}
        for name, point in points.items():
            place = under.point if under is not None and name == self._thin else images
            volume = site.volumes[name] = Volume(
                place / f"{name}-{node.index}", point, VOLUME_BYTES
            )
            volume.make()
        return site

    def close(self) -> None:
        for site in self.sites:
            for volume in (*site.volumes.values(), site.under):
                if volume is not None:
                    volume.thaw()  # or its process could not even be killed
        self.cluster.close()
        for site in self.sites:
            site.close()
        self.sites.clear()

    def remove(self) -> None:
        shutil.rmtree(self.directory)

    def site(self, index: int) -> Site:
        return self.sites[index]

    def wipe(self, index: int) -> None:
        """Kill a node and take all its data away; `supervise` starts it as a new one."""
        site, node = self.sites[index], self.cluster.nodes[index]
        was_supervised, self.is_supervised = self.is_supervised, False
        node.kill()
        site.volumes[LOG].unmount()
        site.volumes[DATABASE].unmount()
        site.volumes[DATABASE].make()
        site.volumes[LOG].make()
        self.is_supervised = was_supervised

    def first_index(self, index: int) -> int:
        """Where a node's log begins; 0 while it does not answer."""
        view = self.view(index)
        return 0 if view is None else int(view["first_log_index"])

    async def supervise(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(SUPERVISOR_PAUSE_S)
            for node in self.cluster.nodes:
                if node.state is NodeState.RUNNING and node.process is not None:
                    code = node.process.poll()
                    if code is not None:
                        node.wait_exit()
                        self.exits.append((node.index, code))
            if self.is_supervised:
                self.start_what_is_down()

    def start_what_is_down(self) -> None:
        for site in self.sites:
            ready = all(volume.is_mounted for volume in site.volumes.values())
            if site.node.state is NodeState.DOWN and ready:
                site.node.start()

    def exits_of(self, index: int) -> list[int]:
        return [code for at, code in self.exits if at == index]

    def view(self, index: int) -> dict[str, Any] | None:
        """The raft part of a node's status; None while it does not answer."""
        try:
            return self.cluster.nodes[index].raft_status()
        except (OSError, ClusterError, KeyError, ValueError):
            return None
        except Exception as error:
            if type(error).__module__ == "http.client":
                return None
            raise


@dataclass(frozen=True, slots=True)
class Look:
    """One read of one node: when it was asked and answered, and whether it was served."""

    node: int
    level: str
    begin_s: float
    end_s: float
    is_served: bool


@dataclass(slots=True)
class Prober:
    """Reads from every node at level none and linearizable, all the time."""

    api: Api
    now: Callable[[], float]
    looks: list[Look] = field(default_factory=list)

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for node in range(len(self.api.urls)):
                for level in ("none", "linearizable"):
                    group.create_task(self._probe(node, level))

    async def _probe(self, node: int, level: str) -> None:
        query = f"level={level}&timeout=2s&linearizable_timeout=2s"
        while True:
            begin = self.now()
            rows = await self.api.read(node, query, "SELECT count(*) FROM accounts")
            self.looks.append(Look(node, level, begin, self.now(), rows is not None))
            await asyncio.sleep(PROBE_PAUSE_S)

    def failures(self, node: int, level: str, begin_s: float, end_s: float) -> list[Look]:
        """Reads in this time that were not served, or not while it lasted."""
        return [
            one
            for one in self.between(node, level, begin_s, end_s)
            if not one.is_served or one.end_s > end_s + 1.0
        ]

    def between(self, node: int, level: str, begin_s: float, end_s: float) -> list[Look]:
        return [
            one
            for one in self.looks
            if (one.node, one.level) == (node, level) and begin_s <= one.begin_s < end_s
        ]


PADDING_SCHEMA = [
    "CREATE TABLE padding(id INTEGER PRIMARY KEY, v TEXT)",
    "CREATE TABLE padded(marker TEXT PRIMARY KEY)",
    "CREATE TABLE filling(id INTEGER PRIMARY KEY, v TEXT)",
]
PADDING_QUERY = (
    "SELECT (SELECT count(*) FROM padded),"
    " (SELECT count(*) FROM markers WHERE marker IN (SELECT marker FROM padded))"
)
"""Both are the same number: a transaction is all there or not at all."""
PADDING_BYTES = 64 * 1024
PADDING_ROWS = 50
PADDING_PAUSE_S = 0.03


async def pad(clients: Clients) -> None:
    """A client whose writes are long, so that space is used up: until the others stop."""
    chance = random.Random(clients.seed)
    number = 0
    while not clients.stop.is_set():
        number += 1
        marker = f"padding-{number}"
        text = chance.choice("abcdefgh") * PADDING_BYTES
        statements = [
            [INSERT, marker, 1],
            ["INSERT OR REPLACE INTO padding VALUES(?, ?)", number % PADDING_ROWS, text],
            ["INSERT INTO padded VALUES(?)", marker],
        ]
        node = chance.randrange(NODES)
        record = clients.history.invoke("padding", node, "insert")
        answer = await clients.api.write(node, "/db/execute?transaction", statements)
        clients.history.complete(record, answer.outcome, answer.error or answer.sql_errors)
        clients.ledger.note([marker], answer.outcome)
        await asyncio.sleep(PADDING_PAUSE_S)


async def until(
    holds: Callable[[], bool], timeout_s: float, what: str | Callable[[], str]
) -> float:
    """Return when `holds()`, asked in a thread: the seconds it took."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    while not await asyncio.to_thread(holds):
        if loop.time() - begin > timeout_s:
            text = what if isinstance(what, str) else what()
            raise ClusterError(f"waited {timeout_s:.1f} s in vain for {text}")
        await asyncio.sleep(POLL_S)
    return loop.time() - begin


def log_files(site: Site) -> list[Path]:
    """The files of the node's log, and its directory."""
    log = site.node.directory / "log"
    return [log, *sorted(path for path in log.iterdir() if path.is_file())]


def database_files(site: Site) -> list[Path]:
    """The files of the node's database."""
    path = database_path(site.node.directory)
    return [path, path.with_name(f"{path.name}-wal")]

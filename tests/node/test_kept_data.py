"""Data directories of every release that there was: this one reads them, and goes on from there.

They are made by `tests/fixtures/data.py`, which says what is in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import rsqlite
from rsqlite.config import Settings
from rsqlite.node.engine import Engine
from rsqlite.node.recovery import Peer, write_peers
from rsqlite.node.upgrade import Declare
from rsqlite.raft.types import Configuration, EntryKind, NodeId
from rsqlite.statemachine import check_database
from rsqlite.statemachine.command import decode
from rsqlite.statemachine.fingerprint import behaviour_of, fingerprint_here
from rsqlite.storage import LogStore, Severity, check
from rsqlite.storage.directory import read_configuration
from rsqlite.storage.disk import RealDisk
from rsqlite.storage.identity import read_identity
from rsqlite.testing.engines import EngineCluster
from rsqlite.testing.loop import ManualLoop
from tests.fixtures.data import KILLED, NODES, answers, entries_of, entry_line, kept, unpack
from tests.node.releases import configuration_of, release

pytestmark = pytest.mark.slow


@dataclass
class Kept:
    """The data directories of one release, unpacked, and what is in them."""

    directory: Path
    expected: dict[str, Any]

    def node(self, number: int) -> Path:
        return self.directory / f"node{number}"

    @property
    def fingerprint(self) -> str:
        return str(self.expected["fingerprint"])

    def cluster(self, size: int = NODES, **settings: Any) -> EngineCluster:
        """Its nodes, none of which runs."""
        return EngineCluster(self.directory, size, join_interval=0.5, **settings)


@pytest.fixture(params=kept())
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    return Kept(tmp_path, unpack(request.param, tmp_path))


def test_this_release_has_left_its_data() -> None:
    """`python tests/fixtures/data.py --rewrite`, see CONTRIBUTING.md."""
    assert rsqlite.__version__ in kept()


@pytest.mark.parametrize("number", range(NODES))
def test_a_check_finds_no_damage(data: Kept, number: int) -> None:
    path = str(data.node(number))
    damage = [one for one in check(path) if one.severity is not Severity.INFO]
    assert damage == []
    assert check_database(f"{path}/db") == []


@pytest.mark.parametrize("number", range(NODES))
def test_identity_and_every_entry_of_the_log_are_what_they_were(data: Kept, number: int) -> None:
    path, disk, loop = str(data.node(number)), RealDisk(), ManualLoop()
    expected = data.expected["nodes"][number]
    identity = read_identity(path, disk)
    assert (identity.label, str(identity.node_id)) == (expected["label"], expected["node_id"])
    saved = read_configuration(path, disk)
    assert saved is not None
    assert Configuration.from_bytes(saved.configuration).fingerprint == data.fingerprint
    log = LogStore.open(
        f"{path}/log", disk=disk, loop=loop, settings=Settings(), node_id=identity.node_id
    )
    first, last = expected["first_index"], expected["last_index"]
    begin = int(data.expected["log"][0].split()[0])
    entries = list(entries_of(log))
    lines = data.expected["log"][first - begin : last - begin + 1]
    assert [entry_line(entry) for entry in entries] == lines
    for entry in entries:
        if entry.kind is EntryKind.COMMAND:
            assert decode(entry.data).statement_count
        elif entry.kind is EntryKind.CONFIGURATION:
            assert Configuration.from_bytes(entry.data).member(NodeId(identity.node_id))
    log.close()


def goes_on(cluster: EngineCluster, data: Kept, nodes: list[Engine]) -> None:
    """They hold what they held, and take writes of every kind that is easily broken."""
    leader = cluster.wait_leader()
    cluster.until(lambda: all(engine.is_synced for engine in nodes))
    for engine in nodes:
        assert answers(cluster, engine) == data.expected["answers"]
    cluster.execute(leader, "INSERT INTO kinds(v) VALUES('Cafeteria')", "DELETE FROM filler")
    cluster.until(lambda: len({engine.machine.applied_index for engine in nodes}) == 1)
    for engine in nodes:
        found = cluster.rows(engine, "SELECT count(*) FROM words WHERE words MATCH 'cafeteria'")
        assert found == [(1,)]
        assert cluster.rows(engine, "SELECT count(*) FROM filler") == [(0,)]
        assert engine.fault is None


def test_its_nodes_start_and_are_upgraded_one_by_one_to_this_release(data: Kept) -> None:
    """They run as the release that left them, by its fingerprint, and then as this one; should
    they have the same, as another one."""
    older, here = data.fingerprint, fingerprint_here(Settings())
    newer = here if here != older else f"{behaviour_of(here)}-sqlite-3.99.9-{'e' * 24}"
    cluster = data.cluster()
    for number in range(NODES):
        cluster.releases[number] = release(older, behaviour=behaviour_of(older))
        cluster.start_node(number)
    goes_on(cluster, data, cluster.running())
    assert cluster.change(cluster.leader(), Declare(newer)) is None
    for number in range(NODES):
        cluster.kill(number)
        cluster.releases[number] = release(newer, behaviour=behaviour_of(newer))
        engine = cluster.start_node(number)
        cluster.until(lambda engine=engine: engine.is_synced)  # type: ignore[misc]
        cluster.wait_leader()
    cluster.until(lambda: configuration_of(cluster.leader()).fingerprint == newer)
    cluster.execute(cluster.leader(), "INSERT INTO kinds(v) VALUES('upgraded')")
    assert cluster.faults == []
    cluster.close()


@pytest.mark.parametrize("number", range(NODES))
def test_a_single_node_of_it_goes_on_alone_with_this_release(data: Kept, number: int) -> None:
    """After `rsqlite recover`, as whoever has lost the others."""
    label = data.expected["nodes"][number]["label"]
    write_peers(str(data.node(number)), [Peer(label, f"node{number}:4002", True)])
    cluster = data.cluster()
    engine = cluster.start_node(number)
    goes_on(cluster, data, [engine])
    here = fingerprint_here(cluster.settings)
    cluster.until(lambda: configuration_of(engine).fingerprint == here)
    assert cluster.faults == []
    cluster.close()


def test_its_whole_log_gives_the_same_database_when_it_is_carried_out_again(data: Kept) -> None:
    """The node was killed before it had made a checkpoint; a power cut takes what is in its WAL."""
    for path in data.node(KILLED).glob("db/*/main.db-*"):
        path.unlink()
    write_peers(str(data.node(KILLED)), [Peer(f"n{KILLED}", f"node{KILLED}:4002", True)])
    cluster = data.cluster()
    engine = cluster.start_node(KILLED)
    assert (engine.machine.applied_index, engine.log.first_index) == (0, 1)
    goes_on(cluster, data, [engine])
    assert cluster.faults == []
    cluster.close()

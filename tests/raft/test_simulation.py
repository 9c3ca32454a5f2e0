"""Chance against the core: seeded runs under faults, every promise checked on every step."""

from __future__ import annotations

import pytest

from rsqlite.raft.core import Raft
from tests.raft.simulation import Simulation


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("voters", "changes"), [(3, False), (5, False), (3, True)])
def test_a_cluster_under_faults_keeps_its_promises_and_recovers(
    seed: int, voters: int, changes: bool
) -> None:
    spare = 2 if changes else 0
    simulation = Simulation(seed, voters, spare=spare, changes=changes).run(1500)
    assert simulation.cluster.oracle.committed


@pytest.mark.parametrize("seed", range(4))
def test_promises_are_kept_while_two_fingerprints_live_together(seed: int) -> None:
    simulation = Simulation(seed, 3, spare=2, changes=True, upgrade=True).run(1500)
    assert simulation.cluster.oracle.committed


def test_without_faults_everything_that_was_accepted_is_committed() -> None:
    simulation = Simulation(1, 3, faults=False).run(1500)
    counts = simulation.counts
    cluster = simulation.cluster
    leader = cluster.leaders[0]
    assert counts["accepted"] > 10
    commands = [e for e in cluster.servers[leader.node_id].database.applied if e.data]
    assert len(commands) == counts["accepted"]
    assert leader.current_term == 1, "an election that nobody needed"


def test_the_same_seed_gives_the_same_run() -> None:
    one, two = (Simulation(7, 3, spare=1, changes=True).run(400) for _ in range(2))
    assert one.counts == two.counts
    assert one.cluster.oracle.committed == two.cluster.oracle.committed
    assert [repr(s.raft) for s in one.cluster.running] == [
        repr(s.raft) for s in two.cluster.running
    ]


@pytest.mark.slow
@pytest.mark.parametrize("block", range(4))
def test_many_seeds(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # The checks inside a core cost most of the time; without them more runs fit in.
    monkeypatch.setattr(Raft, "checks_every_step", block == 0)
    elections = changes = transfers = reads = upgraded = 0
    for seed in range(1000 * block, 1000 * block + (8 if block == 0 else 25)):
        voters = 3 if seed % 3 else 5
        simulation = Simulation(
            seed, voters, spare=2, changes=seed % 2 == 0, upgrade=seed % 4 in (0, 3)
        ).run(5000)
        elections += len(simulation.cluster.oracle.leaders)
        changes += simulation.counts.get("changes begun", 0)
        transfers += simulation.counts.get("transfers begun", 0)
        reads += simulation.cluster.oracle.confirmed_reads
        upgraded += simulation.counts.get("starts of the newer", 0)
    seen = (elections, changes, transfers, reads, upgraded)
    assert min(seen) >= 10, "the runs miss what they test"

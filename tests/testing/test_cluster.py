"""A cluster of real processes: nodes are killed and paused, and the others go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from rsqlite.testing.cluster import ProcessCluster, free_ports


def test_free_ports_are_different_and_not_those_of_outgoing_connections() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    low, high = map(int, text.split())
    assert not [port for port in ports if low <= port <= high]


@pytest.mark.slow
def test_three_nodes_elect_lose_and_regain_a_leader(tmp_path: Path) -> None:
    with ProcessCluster(3, tmp_path) as cluster:
        first = cluster.leader()
        assert len(cluster.followers()) == 2
        cluster.nodes[first].pause()
        second = cluster.leader()
        assert second != first
        cluster.nodes[first].resume()
        cluster.nodes[second].kill()
        third = cluster.leader()
        assert third != second
        cluster.nodes[second].start()
        cluster.wait_ready()
        cluster.wait_applied()
        cluster.kill_all()
        assert not cluster.running()
        cluster.start()
        assert cluster.nodes[0].terminate() == 0

"""Real processes: started, killed, paused, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rsqlite.testing.cluster import (
    ClusterError,
    NodeState,
    ProcessCluster,
    free_ports,
    wait_for,
    wait_until,
)


def test_free_ports_are_different_and_not_those_of_outgoing_connections() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    low, high = map(int, text.split())
    assert not [port for port in ports if low <= port <= high]


def test_waiting_ends_with_the_value_or_says_for_what_it_waited() -> None:
    looks = iter([None, None, 7])
    assert wait_for(lambda: next(looks), 5, lambda: "seven") == 7
    with pytest.raises(ClusterError, match="in vain for a miracle"):
        wait_until(lambda: False, 0.0, lambda: "a miracle")


@pytest.mark.slow
def test_a_node_that_ends_by_itself_is_noticed_with_what_it_printed(tmp_path: Path) -> None:
    cluster = ProcessCluster(1, tmp_path, ["-rows-max", "none"])
    with pytest.raises(ClusterError, match="'none' is not a number"):
        cluster.start()
    assert cluster.nodes[0].state is NodeState.DOWN


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


PROGRAM = """
import sys
from rsqlite.testing.cluster import ProcessCluster
cluster = ProcessCluster(1, sys.argv[1])
cluster.start()
print(cluster.nodes[0].pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_nodes_end_with_their_owner_however_it_ends(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert is_running(pid)
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    wait_until(lambda: not is_running(pid), 10, lambda: f"process {pid} to end")


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # An orphan that nobody waits for stays as a zombie where there is no init process.
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"

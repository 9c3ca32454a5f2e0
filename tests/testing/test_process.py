"""One process: waited for, noticed when it ends, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rsqlite.testing.cluster import ProcessCluster
from rsqlite.testing.process import ClusterError, NodeState, wait_for, wait_until


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

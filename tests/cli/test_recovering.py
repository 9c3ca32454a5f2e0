"""`rsqlite recover`, from a lost majority to a cluster that goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from rsqlite.cli.exits import Exit
from rsqlite.cli.main import main
from rsqlite.testing.cluster import ProcessCluster, wait_until

pytestmark = pytest.mark.slow


def rows(cluster: ProcessCluster, at: int, level: str) -> object:
    query = cluster.nodes[at].call("POST", f"/db/query?level={level}", ["SELECT v FROM t"])
    return query["results"][0].get("values")


def test_two_of_three_are_lost_and_the_third_goes_on(tmp_path: Path) -> None:
    runner = CliRunner()
    with ProcessCluster(3, tmp_path) as cluster:
        cluster.nodes[0].call(
            "POST", "/db/execute", ["CREATE TABLE t(v)", "INSERT INTO t VALUES(1)"]
        )
        cluster.wait_applied()
        kept = cluster.nodes[2]
        refused = runner.invoke(main, ["recover", str(kept.directory)])
        assert refused.exit_code == Exit.LOCKED
        cluster.kill_all()
        asked = runner.invoke(main, ["recover", str(kept.directory)], input="n\n")
        assert asked.exit_code == Exit.USAGE
        assert "Nothing was changed." in asked.output
        for words in ("Node '3'", "Out of it, for good: 1, 2", "Lost are all writes", "Go on?"):
            assert words in asked.output
        done = runner.invoke(main, ["recover", str(kept.directory)], input="y\n")
        assert done.exit_code == Exit.OK, done.output
        kept.start()
        wait_until(kept.is_ready, 20.0, kept.log_tail)
        assert rows(cluster, 2, "strong") == [[1]]
        kept.call("POST", "/db/execute", ["INSERT INTO t VALUES(2)"])
        # The others come back with empty directories.
        new = cluster.grow()
        wait_until(lambda: new.is_ready() and new.raft_status()["voter"], 20.0, new.log_tail)
        assert rows(cluster, 3, "linearizable") == [[1], [2]]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--peer", "3"], "write ID=ADDRESS"),
        (["--peer", "3=nowhere"], "no HOST:PORT"),
        (["--peer", "2=a:1"], "'1', is not among"),
    ],
)
def test_what_makes_no_sense_is_told_and_changes_nothing(
    tmp_path: Path, options: list[str], problem: str
) -> None:
    with ProcessCluster(1, tmp_path) as cluster:
        node = cluster.nodes[0]
        node.call("POST", "/db/execute", ["CREATE TABLE t(v)"])
        node.terminate()
        found = CliRunner().invoke(main, ["recover", str(node.directory), "--yes", *options])
        assert found.exit_code == Exit.CLUSTER
        assert problem in found.output
        assert not (node.directory / "raft").exists()
    (tmp_path / "empty").mkdir()
    found = CliRunner().invoke(main, ["recover", str(tmp_path / "empty"), "--yes"])
    assert found.exit_code == Exit.FOREIGN

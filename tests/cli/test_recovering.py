"""`rsqlite recover`, from a lost majority to a cluster that goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from rsqlite.cli.exits import Exit
from rsqlite.cli.main import main
from rsqlite.cli.recovering import Stopped, parse_peers
from rsqlite.errors import RequestError
from rsqlite.node.recovery import Peer
from rsqlite.raft.types import Configuration, Member, NodeId
from rsqlite.storage.identity import Identity
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
        (["--peer", "1=a:1", "--peer", "1=b:1"], "'1' twice"),
        (["--peer", "1=a:1", "--peer", "2=a:1"], "'a:1' twice"),
        (["--peer", "1=:0"], "nobody can reach"),
        (["--peer", "1=a:1", "--peer", "nine=b:1"], "no member that this node knows"),
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


def test_a_peer_that_is_known_by_its_address_goes_by_the_name_it_has() -> None:
    members = tuple(Member(NodeId(one), f"n{one}", f"h:{one}", "") for one in (1, 2, 3))
    configuration = Configuration(
        members=members,
        voters=frozenset({NodeId(1), NodeId(3)}),
        learners=frozenset({NodeId(2)}),
        cluster_id="c",
    )
    node = Stopped("d", Identity(1, 1, "c", "n1"), configuration, 7, 1)
    left = parse_peers(["n1=h:1", "second=h:2"], node)
    assert left == [Peer("n1", "h:1", True), Peer("n2", "h:2", False)]
    assert "Out of it, for good: n3." in "\n".join(node.explain(left))
    with pytest.raises(RequestError, match="no node with a vote"):
        parse_peers(["n2=h:2"], replace(node, identity=Identity(2, 1, "c", "n2")))

"""The fixtures do for somebody else's tests what docs/client.md says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PLUGINS_OFF = ["-p", "no:cacheprovider", "-p", "no:asyncio"]
TESTS = '''
import pytest
import rsqlite
from rsqlite.testing.process import NodeState

kept = []

def test_one_leaves_things_behind(rsqlite_node):
    kept.append(rsqlite_node)
    db = rsqlite.connect(rsqlite_node.url)
    db.executescript("""
        CREATE TABLE a(x INTEGER PRIMARY KEY); CREATE TABLE b(y REFERENCES a(x));
        CREATE VIEW "odd ""name" AS SELECT * FROM a; CREATE VIRTUAL TABLE f USING fts5(t);
        INSERT INTO a VALUES(1); INSERT INTO b VALUES(1);
    """)
    rsqlite_node.restart()
    assert db.execute("SELECT count(*) FROM b").fetchone() == (1,)
    rsqlite_node.pause()
    db.close()

def test_the_next_finds_it_running_and_empty(rsqlite_node):
    assert kept == [rsqlite_node]
    db = rsqlite.connect(rsqlite_node.url)
    sql = "SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE '_rsqlite%'"
    assert db.execute(sql).fetchone() == (0,)
    db.close()
    rsqlite_node.kill()

def test_it_is_started_again(rsqlite_node):
    assert rsqlite_node.state is NodeState.RUNNING

def test_a_cluster_survives_its_leader(rsqlite_cluster):
    cluster = rsqlite_cluster(3)
    db = rsqlite.connect(cluster.url)
    db.execute("CREATE TABLE t(x)")
    leader = cluster.nodes[cluster.leader()]
    leader.kill()
    db.execute("INSERT INTO t VALUES(1)")
    leader.start()
    db.close()
    kept.append(cluster)

def test_it_ends_with_its_test():
    assert all(node.state is NodeState.DOWN for node in kept[-1].nodes)
    assert False, "shows the logs"

def test_what_the_node_printed_is_shown(rsqlite_node):
    assert False
'''


def test_the_fixtures(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(TESTS)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", *PLUGINS_OFF],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if "PYTEST" not in key},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 failed, 4 passed" in result.stdout, result.stdout + result.stderr
    assert '"event":"cluster formed"' in result.stdout


def test_where_it_is_not_used_nothing_is_loaded() -> None:
    program = (
        "import sys, rsqlite.testing.plugin;"
        "print(*sorted(name for name in sys.modules if name.startswith(('rsqlite', 'apsw'))))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["rsqlite", "rsqlite.testing", "rsqlite.testing.plugin"]

"""/status, /nodes, /leader, /readyz, /debug/vars."""

from __future__ import annotations

from rsqlite.errors import TimedOut
from rsqlite.request import ReadLevel
from tests.server.conftest import Bench, Start
from tests.server.fake_node import FakeNode


async def test_status_has_the_keys_that_clients_read(bench: Bench) -> None:
    await bench.post("/db/execute", ["CREATE TABLE t(a)"])
    tree = (await bench.get("/status")).json
    assert {"build", "cluster", "http", "mux", "network", "node", "os", "runtime", "store"} <= set(
        tree
    )
    store = tree["store"]
    assert store["ready"] is True
    assert store["leader"] == {"node_id": "one", "addr": "127.0.0.1:4002"}
    assert (store["raft"]["state"], store["raft"]["voter"]) == ("Leader", True)
    assert store["raft"]["applied_index"] == store["fsm_index"] == store["db_applied_index"] == 1
    assert {"commit_index", "last_log_index", "last_snapshot_index"} <= set(store["raft"])
    assert {"path", "version"} <= set(store["sqlite3"])
    assert set(store["sqlite3"]["pragmas"]) == {"ro", "rw"}
    assert store["snapshot_store"]["snapshots"] == []
    assert tree["http"]["executions"] == 1
    assert tree["node"]["uptime"] == "1m30s"
    assert tree["build"]["fingerprint"] == tree["cluster"]["fingerprint"] == "1-sqlite-old"
    assert tree["cluster"]["upgrade_to"] is None


async def test_status_by_key(bench: Bench) -> None:
    assert (await bench.get("/status?key=store.leader.node_id")).json == "one"
    assert (await bench.get("/status?key=store.nothing")).json == {}
    assert (await bench.get("/status?key=store.ready.deeper")).json == {}
    got = await bench.get("/status?key=store.leader&pretty")
    assert got.text.startswith('{\n    "node_id": "one",')


async def test_nodes_as_map_and_as_list(bench: Bench) -> None:
    nodes = (await bench.get("/nodes")).json
    assert list(nodes) == ["one", "two"]
    assert nodes["one"] == {
        "id": "one",
        "number": "1",
        "api_addr": "http://127.0.0.1:4001",
        "addr": "127.0.0.1:4002",
        "voter": True,
        "reachable": True,
        "leader": True,
        "fingerprint": "1-sqlite-old",
        "version": "v0.1.0",
    }
    assert list((await bench.get("/nodes?nonvoters")).json) == ["one", "two", "three"]
    listed = (await bench.get("/nodes?ver=2&nonvoters")).json["nodes"]
    assert [node["id"] for node in listed] == ["one", "two", "three"]


async def test_members_of_one_label_are_all_shown_by_number(bench: Bench) -> None:
    bench.node.other = bench.node.other._replace(label="one")
    assert list((await bench.get("/nodes?nonvoters")).json) == ["1", "2", "three"]
    listed = (await bench.get("/status?key=store.nodes")).json
    assert [(node["id"], node["number"]) for node in listed[:2]] == [("one", "1"), ("one", "2")]


async def test_leader(bench: Bench) -> None:
    assert (await bench.get("/leader")).json["id"] == "one"
    bench.node.leader = None
    got = await bench.get("/leader")
    assert (got.status, got.text, got.headers["retry-after"]) == (503, "leader not found\n", "1")


async def test_readyz(bench: Bench) -> None:
    node = bench.node
    got = await bench.get("/readyz")
    assert (got.status, got.text) == (200, "[+]node ok\n[+]leader ok\n[+]store ok\n[+]db ok")
    assert got.headers["content-type"] == "text/plain; charset=utf-8"
    assert node.requests[-1].level is ReadLevel.NONE
    node.fault = "the disk failed"
    got = await bench.get("/readyz")
    assert (got.status, got.text.splitlines()[-1]) == (503, "[+]store not ready: the disk failed")
    node.fault = None
    node.leader_reachable = False
    assert (await bench.get("/readyz")).text.startswith("[+]node ok\n[+]leader not contactable")
    node.leader = None
    got = await bench.get("/readyz")
    assert (got.status, got.text) == (503, "[+]node ok\n[+]leader does not exist")
    got = await bench.get("/readyz?noleader")
    assert (got.status, got.text) == (200, "[+]node ok")


async def test_readyz_with_sync_waits_for_what_is_committed(start: Start) -> None:
    node = FakeNode()
    bench = await start(node)
    await bench.post("/db/execute", ["CREATE TABLE t(a)"])
    got = await bench.get("/readyz?sync&timeout=3s")
    assert (got.status, got.text.splitlines()[-2:]) == (200, ["[+]sync ok", "[+]db ok"])
    asked = node.requests[-1]
    assert (asked.level, asked.timeout_s) == (ReadLevel.LINEARIZABLE, 3.0)
    node.error = TimedOut("index 1 did not arrive in time")
    got = await bench.get("/readyz?sync")
    assert (got.status, got.text.splitlines()[-1]) == (
        503,
        "[+]sync index 1 did not arrive in time",
    )


async def test_variables(bench: Bench) -> None:
    await bench.post("/db/query", ["SELECT 1"])
    groups = (await bench.get("/debug/vars")).json
    assert groups["http"]["queries"] == 1
    assert groups["writer"] == {"batches": 3}
    assert groups["log"] == {"syncs": 5}
    assert {"cmdline", "memstats"} <= set(groups)
    assert (await bench.get("/debug/vars?key=writer")).json == {"writer": {"batches": 3}}
    assert (await bench.get("/debug/vars?key=nothing")).json == {}

"""DELETE /remove, POST /leader and /snapshot, /verify, /vacuum and /upgrade."""

from __future__ import annotations

import pytest

from rsqlite.errors import (
    Fate,
    LeadershipLost,
    NoLeader,
    RequestError,
    RsqliteError,
    StaleRead,
    TimedOut,
    Unavailable,
)
from rsqlite.node.changes import Remove, Transfer
from rsqlite.node.findings import Finding, NodeReport, Report
from rsqlite.node.upgrade import Abandon, Declare
from rsqlite.node.vacuums import NodeVacuum, VacuumReport
from tests.server.conftest import Bench, Start
from tests.server.fake_node import FakeNode


async def test_a_node_is_removed_by_its_name(bench: Bench) -> None:
    got = await bench.call("DELETE", "/remove", {"id": "two"})
    assert (got.status, got.body) == (200, b"")
    assert bench.node.wishes == [Remove("two")]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'"two"', b'{"id":2}', b'{"id":""}', b"{nope"])
async def test_anything_but_one_id_is_a_mistake(bench: Bench, body: bytes) -> None:
    assert (await bench.call("DELETE", "/remove", body)).status == 400
    assert (await bench.call("DELETE", "/remove", {"id": "two", "more": 1})).status == 400
    assert bench.node.wishes == []


async def test_leadership_is_handed_over_to_whom_the_body_names(bench: Bench) -> None:
    assert (await bench.call("POST", "/leader")).status == 200
    assert (await bench.post("/leader", {"id": "two"})).status == 200
    assert (await bench.post("/leader", {})).status == 200
    # As in rqlite: only the exact content type makes it a body to look at.
    assert (await bench.call("POST", "/leader", b'{"id":"two"}')).status == 200
    assert bench.node.wishes == [Transfer(), Transfer("two"), Transfer(), Transfer()]
    assert (await bench.post("/leader", {"id": 7})).status == 400
    assert (await bench.post("/leader", {"node": "two"})).status == 400


async def test_a_refusal_says_whose_fault_it_is(bench: Bench) -> None:
    for error, status in (
        (RequestError("the last voter"), 400),
        (Unavailable("no majority"), 503),
        (NoLeader(), 503),
    ):
        bench.node.error = error
        got = await bench.call("DELETE", "/remove", {"id": "two"})
        assert (got.status, got.headers["rsqlite-write"]) == (status, "not-applied")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/remove", {"id": "two"}),
        ("POST", "/leader", None),
        ("POST", "/upgrade", {"to": "1-sqlite-new"}),
        ("DELETE", "/upgrade", None),
        ("POST", "/vacuum", None),
        ("POST", "/verify", None),
        ("POST", "/snapshot", None),
    ],
)
async def test_what_was_not_done_is_no_success(
    bench: Bench, method: str, path: str, body: object
) -> None:
    errors: tuple[RsqliteError, ...] = (
        TimedOut("not in time", fate=Fate.UNKNOWN),
        LeadershipLost("the leader changed"),
        StaleRead("old"),
    )
    for error in errors:
        bench.node.error = error
        got = await bench.call(method, path, body)
        assert (got.status, got.text) == (503, f"{error}\n")
        assert got.headers["retry-after"] == "1"
        assert got.headers["rsqlite-error"] in ("timed-out", "leadership-lost", "stale-read")


async def test_redirect_sends_to_the_leader(start: Start) -> None:
    bench = await start(FakeNode(leads=False))
    got = await bench.call("DELETE", "/remove?redirect", {"id": "two"})
    assert (got.status, got.headers["location"]) == (
        301,
        "http://leader.example:4001/remove?redirect",
    )
    assert bench.node.wishes == []
    assert (await bench.call("DELETE", "/remove", {"id": "two"})).status == 200


async def test_a_snapshot_is_made_on_demand(bench: Bench) -> None:
    assert (await bench.call("POST", "/snapshot")).status == 200
    bench.node.has_news = False
    assert (await bench.call("POST", "/snapshot")).status == 204
    bench.node.error = Unavailable("busy")
    assert (await bench.call("POST", "/snapshot")).status == 503


async def test_a_check_of_contents_is_reported_node_by_node(bench: Bench) -> None:
    assert (await bench.call("GET", "/verify")).status == 204
    found = Finding(state="done", digest="d", tables={"t": "1"}, problems=["p"], seconds=0.25)
    bench.node.report = Report(
        index=7,
        agreed=False,
        complete=False,
        nodes=(
            NodeReport(1, "one", True, "differs", found, ("t",)),
            NodeReport(2, "two", True, "no answer", None, ()),
            NodeReport(3, "three", False, "no answer", Finding(state="failed", error="full"), ()),
        ),
    )
    expected = {
        "index": 7,
        "agreed": False,
        "complete": False,
        "nodes": [
            {
                "id": "one",
                "voter": True,
                "verdict": "differs",
                "state": "done",
                "digest": "d",
                "seconds": 0.25,
                "problems": ["p"],
                "tables": ["t"],
            },
            {"id": "two", "voter": True, "verdict": "no answer", "state": "silent"},
            {
                "id": "three",
                "voter": False,
                "verdict": "no answer",
                "state": "failed",
                "error": "full",
            },
        ],
    }
    for method in ("POST", "GET"):
        got = await bench.call(method, "/verify")
        assert (got.status, got.json) == (200, expected)
    status = await bench.call("GET", "/status?key=store")
    assert status.json["content_check"] == expected
    bench.node.report, bench.node.error = None, NoLeader()
    assert (await bench.call("POST", "/verify")).status == 503


async def test_a_vacuum_is_reported_node_by_node(bench: Bench) -> None:
    bench.node.vacuum_report = VacuumReport(
        nodes=(
            NodeVacuum(label="two", step="done", bytes_before=90, bytes_after=9, seconds=0.5),
            NodeVacuum(label="three", step="silent", error="refused"),
            NodeVacuum(label="one", step="failed", bytes_before=90, error="no room"),
        )
    )
    got = await bench.call("POST", "/vacuum")
    assert got.status == 200
    assert got.json == {
        "complete": False,
        "nodes": [
            {"id": "two", "step": "done", "bytes_before": 90, "bytes_after": 9, "seconds": 0.5},
            {"id": "three", "step": "silent", "error": "refused"},
            {
                "id": "one",
                "step": "failed",
                "bytes_before": 90,
                "bytes_after": 0,
                "seconds": 0.0,
                "error": "no room",
            },
        ],
    }
    bench.node.vacuum_report, bench.node.error = None, NoLeader()
    assert (await bench.call("POST", "/vacuum")).status == 503


async def test_an_upgrade_is_declared_shown_and_abandoned(bench: Bench) -> None:
    got = await bench.get("/upgrade")
    assert got.json["fingerprint"] == "1-sqlite-old"
    assert got.json["to"] is None
    got = await bench.post("/upgrade", {"to": "1-sqlite-new"})
    assert (got.status, got.body) == (200, b"")
    assert (await bench.call("DELETE", "/upgrade")).status == 200
    assert bench.node.wishes == [Declare("1-sqlite-new"), Abandon()]
    bench.node.upgrade = "1-sqlite-new"
    got = await bench.get("/upgrade")
    assert got.json["to"] == "1-sqlite-new"
    assert [node["fingerprint"] for node in got.json["nodes"]] == [
        "1-sqlite-new",
        "1-sqlite-old",
        "1-sqlite-old",
    ]
    assert got.json["nodes"][0] == {
        "id": "one",
        "voter": True,
        "leader": True,
        "reachable": True,
        "fingerprint": "1-sqlite-new",
    }


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"to":2}', b'{"to":"x","more":1}', b"{nope"])
async def test_anything_but_one_fingerprint_is_a_mistake(bench: Bench, body: bytes) -> None:
    assert (await bench.call("POST", "/upgrade", body)).status == 400
    assert bench.node.wishes == []


async def test_a_scrub_is_begun_on_demand_and_its_progress_told(bench: Bench) -> None:
    idle = {
        "running": False,
        "part": "",
        "bytes": 0,
        "seconds": 0.0,
        "problems": [],
        "rounds": 0,
    }
    running = {
        "running": True,
        "part": "database",
        "bytes": 4096,
        "seconds": 0.5,
        "problems": ["page 7"],
        "rounds": 1,
    }
    for method, expected in (("GET", idle), ("POST", running), ("GET", running)):
        got = await bench.call(method, "/scrub")
        assert (got.status, got.json) == (200, expected)
    bench.node.repairs = ("a page",)
    store = (await bench.call("GET", "/status?key=store")).json
    assert (store["scrub"], store["repairs"]) == (running, ["a page"])
    bench.node.error = NoLeader()
    assert (await bench.call("POST", "/scrub")).status == 503

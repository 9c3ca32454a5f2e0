"""The cluster over HTTP: DELETE /remove, POST /leader and /snapshot in rqlite's forms; /verify,
/vacuum, /scrub and /upgrade beyond it.

The first two and POST or DELETE /upgrade are carried out by the leader, whoever is asked, or sent
there with 301 if `redirect` asks for it. The answer comes when the change is committed (or the
leadership is gone), with 200 and an empty body; 400 for what can never be, 503 for what cannot be
now or was not done in time.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from rsqlite.errors import RequestError, RsqliteError, Stopped
from rsqlite.node.changes import Remove, Transfer, Wish
from rsqlite.node.findings import NodeReport, Report
from rsqlite.node.scrub import ScrubStatus
from rsqlite.node.upgrade import Declare
from rsqlite.node.vacuums import NodeVacuum, VacuumReport
from rsqlite.server import gojson
from rsqlite.server.answers import Reply, failure_reply, json_reply
from rsqlite.server.flags import Flags
from rsqlite.server.rqlite_api import leader_redirect
from rsqlite.server.service import NodeService


def removal(body: bytes) -> Remove:
    """What `{"id": "2"}` asks for; RequestError for anything else."""
    value = _object(body)
    if list(value) != ["id"]:
        raise RequestError('the body must be {"id": "..."} and nothing else')
    return Remove(_name(value["id"]))


def transfer(body: bytes, content_type: str) -> Transfer:
    """Whom `{"id": "2"}` names; nobody in particular without a body of JSON."""
    if content_type != "application/json" or not body.strip():
        return Transfer()
    value = _object(body)
    if not set(value) <= {"id"}:
        raise RequestError('the body must be {"id": "..."}')
    return Transfer(_name(value["id"]) if "id" in value else "")


def declaration(body: bytes) -> Declare:
    """What `{"to": "<fingerprint>"}` declares."""
    value = _object(body)
    if list(value) != ["to"] or not isinstance(value["to"], str):
        raise RequestError('the body must be {"to": "..."} and nothing else')
    return Declare(value["to"])


def upgrade(node: NodeService, flags: Flags) -> Reply:
    """GET /upgrade: how the cluster computes SQL, what it is to come to (or null), and who does."""
    picture = node.status()
    value = {
        "fingerprint": picture.cluster_fingerprint,
        "to": picture.upgrade,
        "nodes": [
            {
                "id": member.label,
                "voter": member.is_voter,
                "leader": member.is_leader,
                "reachable": member.reachable,
                "fingerprint": member.fingerprint,
            }
            for member in picture.members
        ],
    }
    return json_reply(gojson.dumps(value, is_pretty=flags.pretty))


async def change(node: NodeService, wish: Wish, flags: Flags, target: str) -> Reply:
    """See to the wish, and say what came of it."""
    if flags.redirect and not node.is_leader:
        return leader_redirect(node, target, is_write=True)
    ended: asyncio.Future[RsqliteError | None] = asyncio.get_running_loop().create_future()
    node.change_membership(
        wish,
        lambda error: None if ended.done() else ended.set_result(error),
        flags.timeout_s,
    )
    error = await ended
    return Reply(200) if error is None else failure_reply(error, is_write=True)


async def snapshot(node: NodeService, flags: Flags) -> Reply:
    """POST /snapshot: 200 when this node has checkpointed and cut its log, 204 when there was
    nothing to do."""
    ended: asyncio.Future[tuple[bool, RsqliteError | None]] = (
        asyncio.get_running_loop().create_future()
    )
    node.snapshot(
        lambda *answer: None if ended.done() else ended.set_result(answer), flags.timeout_s
    )
    is_done, error = await ended
    if error is not None:
        return failure_reply(error, is_write=False)
    return Reply(200 if is_done else 204)


async def verify(node: NodeService, flags: Flags) -> Reply:
    """POST /verify: 200 with what came of a check of all nodes' contents."""
    ended: asyncio.Future[tuple[Report | None, RsqliteError | None]] = (
        asyncio.get_running_loop().create_future()
    )
    node.verify(lambda *answer: None if ended.done() else ended.set_result(answer), flags.timeout_s)
    report, error = await ended
    if report is None:
        return failure_reply(error or Stopped("no report"), is_write=False)
    return _report_reply(report, flags)


def scrub(node: NodeService, flags: Flags, *, begins: bool) -> Reply:
    """GET /scrub: how far this node has read through what is on its disk. POST: begin now."""
    try:
        if begins:
            node.begin_scrub()
    except RsqliteError as error:
        return failure_reply(error, is_write=False)
    value = scrub_value(node.status().scrub)
    return json_reply(gojson.dumps(value, is_pretty=flags.pretty))


def scrub_value(status: ScrubStatus) -> dict[str, Any]:
    """The same as JSON has it."""
    return {
        "running": status.is_running,
        "part": status.part,
        "bytes": status.bytes,
        "seconds": round(status.seconds, 3),
        "problems": list(status.problems),
        "rounds": status.rounds,
    }


async def vacuum(node: NodeService, flags: Flags) -> Reply:
    """POST /vacuum: 200 with what came of it on each node."""
    ended: asyncio.Future[tuple[VacuumReport | None, RsqliteError | None]] = (
        asyncio.get_running_loop().create_future()
    )
    node.vacuum_all(
        lambda *answer: None if ended.done() else ended.set_result(answer), flags.timeout_s
    )
    report, error = await ended
    if report is None:
        return failure_reply(error or Stopped("no report"), is_write=True)
    value = {
        "complete": report.is_complete,
        "nodes": [_vacuum_value(node) for node in report.nodes],
    }
    return json_reply(gojson.dumps(value, is_pretty=flags.pretty))


def _vacuum_value(node: NodeVacuum) -> dict[str, Any]:
    value: dict[str, Any] = {"id": node.label, "step": node.step}
    if node.step != "silent":
        value |= {
            "bytes_before": node.bytes_before,
            "bytes_after": node.bytes_after,
            "seconds": node.seconds,
        }
    return value | ({"error": node.error} if node.error else {})


def last_check(node: NodeService, flags: Flags) -> Reply:
    """GET /verify: the same of the last check that ended here; 204 when there was none."""
    report = node.status().content_check
    return Reply(204) if report is None else _report_reply(report, flags)


def report_value(report: Report) -> dict[str, Any]:
    """A report as JSON has it."""
    return {
        "index": report.index,
        "agreed": report.agreed,
        "complete": report.complete,
        "nodes": [_node_value(node) for node in report.nodes],
    }


def _node_value(node: NodeReport) -> dict[str, Any]:
    found = node.finding
    value: dict[str, Any] = {
        "id": node.label,
        "voter": node.is_voter,
        "verdict": node.verdict,
        "state": "silent" if found is None else found.state,
    }
    if found is not None and found.state == "done":
        value |= {
            "digest": found.digest,
            "seconds": round(found.seconds, 3),
            "problems": found.problems,
        }
    if found is not None and found.error:
        value["error"] = found.error
    if node.tables:
        value["tables"] = list(node.tables)
    return value


def _report_reply(report: Report, flags: Flags) -> Reply:
    return json_reply(gojson.dumps(report_value(report), is_pretty=flags.pretty))


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except ValueError as error:
        raise RequestError(f"the body is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise RequestError("the body must be a JSON object")
    return value


def _name(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise RequestError('"id" must be the name of a node')
    return value

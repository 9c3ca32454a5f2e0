"""Changes of the cluster over HTTP: DELETE /remove, POST /leader and /snapshot, in rqlite's forms.

The first two are carried out by the leader, whoever is asked, or sent there with 301 if `redirect`
asks for it. The answer comes when the change is committed (or the leadership is gone), with 200 and
an empty body; 400 for what can never be, 503 for what cannot be now.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from rsqlite.errors import RequestError, RsqliteError
from rsqlite.node.changes import Remove, Transfer, Wish
from rsqlite.server.answers import Reply, error_reply
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
    return Reply(200) if error is None else error_reply(error, is_write=True)


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
        return error_reply(error, is_write=False)
    return Reply(200 if is_done else 204)


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

"""The acceptance run's clients and checks find bugs that are put there on purpose.

The cluster is a stand-in: three addresses in front of one SQLite database in this process, which is
right by nature, and which can be told to break one promise at a time.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from tests.e2e.api import Api
from tests.e2e.checks import CONTENT_QUERIES, content_problems, register_problems
from tests.e2e.clients import SCHEMA, Clients
from tests.e2e.history import History, Ledger

NODES = 3
SECONDS = 1.5
Statement = str | list[Any]


class StandIn:
    """`bug` is the promise that it breaks now and then; empty for none."""

    def __init__(self, bug: str) -> None:
        self.bug = bug
        self.index = 0
        self._database = sqlite3.connect(":memory:", isolation_level=None)
        self._chance = random.Random(5)
        self._past: dict[str, Any] = {}
        self.application = web.Application()
        self.application.router.add_post("/db/execute", self._write)
        self.application.router.add_post("/db/request", self._write)
        self.application.router.add_post("/db/query", self._read)
        for statement in SCHEMA:
            self._database.execute(statement)

    def close(self) -> None:
        self._database.close()

    def _strikes(self, bug: str, often: float) -> bool:
        return self.bug == bug and self._chance.random() < often

    async def _write(self, request: web.Request) -> web.Response:
        statements = json.loads(await request.read())
        is_marker = "registers" not in str(statements)
        is_transaction = "transaction" in request.query
        self._database.execute("BEGIN")
        results = self._run(statements, is_transaction)
        if is_marker and self._strikes("lost", 0.02) and self._database.in_transaction:
            self._database.execute("ROLLBACK")
        if is_marker and self._strikes("twice", 0.02):
            self._run(statements, is_transaction)
        if self._database.in_transaction:
            self._database.execute("COMMIT")
        elif is_transaction and self._strikes("half", 0.2):
            self._one(statements[0])
        self.index += 1
        headers = {"Rsqlite-Index": str(self.index)}
        if self._strikes("wrong fate", 0.02):
            return web.Response(status=503, headers={"Rsqlite-Write": "not-applied"})
        return web.json_response({"results": results}, headers=headers)

    async def _read(self, request: web.Request) -> web.Response:
        statements = json.loads(await request.read())
        results = self._run(statements, False)
        key = json.dumps(statements)
        if self._strikes("stale", 0.2):
            results = self._past.get(key, results)
        else:
            self._past[key] = results
        if "min_index" in request.query and self._strikes("behind", 0.3):
            results = [{"columns": ["count(*)"], "values": [[0]]}]
        return web.json_response({"results": results})

    def _run(self, statements: list[Statement], is_transaction: bool) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = []
        for statement in statements:
            results.append(self._one(statement))
            if is_transaction and "error" in results[-1] and self._database.in_transaction:
                self._database.execute("ROLLBACK")
                break
        return results

    def _one(self, statement: Statement) -> dict[str, Any]:
        sql, *parameters = [statement] if isinstance(statement, str) else statement
        try:
            cursor = self._database.execute(sql, parameters)
        except sqlite3.Error as error:
            return {"error": str(error)}
        if cursor.description is None:
            return {"rows_affected": cursor.rowcount}
        return {"columns": [], "values": [list(row) for row in cursor]}

    def content(self) -> list[dict[str, Any]]:
        return [self._one(query) for query in CONTENT_QUERIES]


@asynccontextmanager
async def serving(stand_in: StandIn) -> AsyncIterator[list[str]]:
    runner = web.AppRunner(stand_in.application, access_log=None)
    await runner.setup()
    for _ in range(NODES):
        await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield [f"http://127.0.0.1:{port}" for _, port in runner.addresses]
    await runner.cleanup()


async def problems_of(bug: str) -> list[str]:
    """What a short run without faults finds in a stand-in with this bug."""
    stand_in = StandIn(bug)
    history, ledger = History(), Ledger()
    async with serving(stand_in) as urls, Api(urls) as api:
        clients = Clients(api, history, ledger, seed=1)
        async with asyncio.TaskGroup() as group:
            for client in clients.run():
                group.create_task(client)
            await asyncio.sleep(SECONDS)
            clients.stop.set()
    content = stand_in.content()
    stand_in.close()
    assert history.acknowledged() > 100
    return [
        *history.violations,
        *content_problems(ledger, content),
        *register_problems(history),
    ]


@pytest.mark.slow
async def test_a_right_cluster_passes() -> None:
    assert await problems_of("") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bug", "found"),
    [
        ("lost", "acknowledged writes are missing"),
        ("twice", "are there more than once"),
        ("half", "refused writes are there"),
        ("wrong fate", "refused writes are there"),
        ("stale", "not linearizable"),
        ("behind", "at index"),
    ],
)
async def test_a_broken_promise_is_found(bug: str, found: str) -> None:
    problems = await problems_of(bug)
    assert any(found in problem for problem in problems), problems

"""A server that speaks as much of rqlite's API as the benchmark needs, and can be told to lie; and
commands in their quick form, on nodes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from bench.__main__ import main
from bench.drawings import DRAWINGS
from bench.plot import drawn

Spoil = Callable[[str, dict[str, Any]], dict[str, Any]]


class StubServer:
    """SQLite behind /db/execute and /db/query, in a thread. `spoil` may change any answer."""

    def __init__(self) -> None:
        self.url = ""
        self.spoil: Spoil = lambda path, answer: answer
        self.status = 200
        self.is_chunked = False
        self._database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()

    async def _start(self) -> None:
        application = web.Application()
        application.router.add_post("/db/execute", self._answer)
        application.router.add_post("/db/query", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        results = [self._one(statement) for statement in json.loads(await request.read())]
        answer = self.spoil(request.path, {"results": results})
        body = json.dumps(answer, separators=(",", ":")).encode()
        if not self.is_chunked:
            return web.Response(body=body, status=self.status, content_type="application/json")
        response = web.StreamResponse(status=self.status)
        response.enable_chunked_encoding()
        await response.prepare(request)
        for at in range(0, len(body), 700):
            await response.write(body[at : at + 700])
        await response.write_eof()
        return response

    def _one(self, statement: str | list[Any]) -> dict[str, Any]:
        sql, *parameters = [statement] if isinstance(statement, str) else statement
        cursor = self._database.execute(sql, parameters)
        if cursor.description is None:
            if cursor.rowcount < 0:
                return {}
            return {"last_insert_id": cursor.lastrowid, "rows_affected": cursor.rowcount}
        columns = [column[0] for column in cursor.description]
        rows = [list(row) for row in cursor]
        kinds = {int: "integer", float: "real", str: "text"}
        types = [kinds[type(value)] for value in rows[0]] if rows else []
        return {"columns": columns, "types": types, "values": rows}

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(5)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._database.close()


@pytest.fixture
def server() -> Iterator[StubServer]:
    stub = StubServer()
    with contextlib.ExitStack() as stack:
        stub.start()
        stack.callback(stub.stop)
        yield stub


PATIENT = "--option=-raft-election-timeout=5s"
"""For a machine with much else to do: an election meanwhile would be no result."""


@pytest.fixture
def quick(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs a command as a user does, on few rows; the figures that it wrote. They can be drawn."""

    def run(command: str, *words: str, is_patient: bool = True) -> dict[str, Any]:
        file = tmp_path / "figures.json"
        given = [command, "--quick", "--json", str(file), "--directory", str(tmp_path)]
        if is_patient:
            given.append(PATIENT)
        assert main([*given, *words]) == 0
        assert list(tmp_path.iterdir()) == [file], "the nodes' data is gone"
        content: dict[str, Any] = json.loads(file.read_text())
        assert content["kind"] == command
        assert drawn(content, DRAWINGS[command]).axes
        return content

    return run

"""The SQL battery over HTTP on three real processes: the answers of plain SQLite through whatever
node a request comes to, and equal content on all nodes after each theme.

The cases share one database here, under other names; those that look at the whole database or
cannot be renamed, and those whose values JSON cannot carry, run in process only.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from rsqlite.request import Failure, Result, Rows, Write
from rsqlite.server.typed import untag
from rsqlite.testing.cluster import ClusterError, ProcessCluster, ProcessNode
from tests.e2e.files import database_path
from tests.statemachine.battery.cases import all_cases
from tests.statemachine.battery.content import content, difference
from tests.statemachine.battery.judge import judge_result
from tests.statemachine.battery.model import Ask, Case, Expect, Sql
from tests.statemachine.battery.oracle import Oracle, is_empty
from tests.statemachine.battery.rename import renamed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

PATHS = {"execute": "/db/execute", "query": "/db/query", "mixed": "/db/request"}
TIMEOUT_S = 30.0


def tagged(value: Any) -> dict[str, Any]:
    """A parameter in the form of `typed`; ValueError if JSON cannot carry it."""
    match value:
        case None:
            return {"type": "null"}
        case bool() | int():
            return {"type": "integer", "value": str(int(value))}
        case float():
            json.dumps(value, allow_nan=False)
            return {"type": "float", "value": value}
        case str():
            value.encode()
            return {"type": "text", "value": value}
        case _:
            return {"type": "blob", "base64": base64.b64encode(bytes(value)).decode()}


def body_of(ask: Ask) -> list[Any]:
    statements: list[Any] = []
    for sql in ask.statements:
        sql.text.encode()
        if isinstance(sql.parameters, dict):
            named = {name: tagged(value) for name, value in sql.parameters.items()}
            statements.append([sql.text, named])
        else:
            statements.append([sql.text, *map(tagged, sql.parameters or ())])
    return statements


def fitting_cases() -> dict[str, list[Case]]:
    """The cases that can share a database and be told over HTTP, by theme."""
    found: dict[str, list[Case]] = {}
    for number, case in enumerate(all_cases()):
        one = None if case.alone or case.slow or case.fk else renamed(case, f"c{number}_")
        if one is None:
            continue
        try:
            for ask in (Ask(one.setup), *one.requests):
                body_of(ask)
        except ValueError:
            continue
        found.setdefault(case.theme, []).append(one)
    return found


THEMES = fitting_cases()


class NodeFailed(Exception):
    """A node answered 5xx or nothing: it has stopped itself, and the cluster is no more use."""


class Clusters:
    """One cluster for all themes, and another one after a node has failed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0
        self._current: ProcessCluster | None = None

    def get(self) -> ProcessCluster:
        if self._current is None:
            self._count += 1
            self._current = ProcessCluster(3, self._directory / str(self._count))
            self._current.start()
        return self._current

    def close(self) -> None:
        if self._current is not None:
            self._current.close()
            self._current = None


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clusters]:
    with contextlib.closing(Clusters(tmp_path_factory.mktemp("battery"))) as started:
        yield started


def test_most_of_the_battery_fits() -> None:
    assert sum(map(len, THEMES.values())) >= 300


@pytest.mark.parametrize("theme", THEMES)
def test_a_cluster_answers_as_plain_sqlite(theme: str, clusters: Clusters, tmp_path: Path) -> None:
    cluster = clusters.get()
    chance = random.Random(theme)
    problems = []
    for number, case in enumerate(THEMES[theme]):
        oracle = Oracle(str(tmp_path / f"plain-{number}.db"))
        try:
            for ask in (Ask(case.setup), *case.requests):
                if any(not is_empty(sql.text) for sql in ask.statements):
                    judge(ask, chance.choice(cluster.nodes), oracle)
        except NodeFailed as error:
            clusters.close()
            pytest.fail(f"{case.id}: {error}; before it: {problems}")
        except AssertionError as error:
            problems.append(f"{case.id}: {error}")
        finally:
            oracle.close()
        drop_left_overs(cluster.nodes[0])
    assert not problems, f"{len(problems)} of {len(THEMES[theme])}:\n" + "\n".join(problems)
    cluster.wait_applied()
    first, *others = [content_of(node) for node in cluster.nodes]
    for other in others:
        assert not difference(first, other)


LEFT_OVER_SQL = (
    "SELECT 'DROP ' || type || ' \"' || name || '\"' FROM sqlite_schema"
    " WHERE type IN ('view', 'trigger') ORDER BY type"
)


def drop_left_overs(node: ProcessNode) -> None:
    """Some cases leave a view or trigger on what is gone: every later ALTER TABLE would stop."""
    try:
        answer = node.call("POST", "/db/query?level=strong", [LEFT_OVER_SQL], timeout_s=TIMEOUT_S)
        drops = [drop for (drop,) in answer["results"][0].get("values", [])]
        if drops:
            node.call("POST", "/db/execute", drops, timeout_s=TIMEOUT_S)
    except (OSError, http.client.HTTPException, ClusterError) as error:
        raise NodeFailed(f"{error!r}\n{node.log_tail(5)}") from error


def content_of(node: ProcessNode) -> dict[str, list[Any]]:
    """What a running node's database holds, read by a plain connection of this process."""
    connection = apsw.Connection(
        str(database_path(node.directory)), flags=apsw.SQLITE_OPEN_READWRITE
    )
    try:
        return content(connection)
    finally:
        connection.close()


def judge(ask: Ask, node: ProcessNode, oracle: Oracle) -> None:
    """Ask one request and hold its answers against those of plain SQLite."""
    answer = send(ask, node)
    if isinstance(answer, str):
        judge_refusal(ask, answer)
        return
    places = [at for at, sql in enumerate(ask.statements) if not is_empty(sql.text)]
    refused = {
        place
        for place, result in zip(places, answer, strict=False)
        if is_refusal(ask.statements[place], result)
    }
    expected = oracle.ask(ask, refused)
    shown = f"\n got      {answer}\n expected {expected}"
    assert len(answer) == len(expected), f"{ask.statements}: {len(answer)} results{shown}"
    statements = [ask.statements[place] for place in places] + [Sql("COMMIT")]
    for sql, result, plain in zip(statements, answer, expected, strict=False):
        if isinstance(result, Failure):
            # HTTP does not tell whether a statement that failed would only have read.
            result = msgspec.structs.replace(result, is_read=getattr(plain, "is_read", False))
        judge_result(sql, result, plain)


def is_refusal(sql: Sql, result: Result) -> bool:
    return sql.expect is Expect.REFUSED or (
        sql.expect is Expect.EITHER and isinstance(result, Failure)
    )


def judge_refusal(ask: Ask, text: str) -> None:
    """A request refused as a whole: because of a statement that may be refused."""
    reasons = [sql.why for sql in ask.statements if sql.expect is Expect.REFUSED]
    may_be = any(sql.expect is Expect.EITHER for sql in ask.statements)
    assert may_be or any(re.search(why, text) for why in reasons), (
        f"refused without need: {text!r}: {ask.statements}"
    )


def send(ask: Ask, node: ProcessNode) -> list[Result] | str:
    """The results of one request over HTTP, or the text of its refusal."""
    flags = ["typed", "level=linearizable"]
    if ask.transaction:
        flags.append("transaction")
    if ask.db_timeout_s:
        flags.append(f"db_timeout={int(ask.db_timeout_s * 1000)}ms")
    path = f"{PATHS[ask.kind]}?{'&'.join(flags)}"
    try:
        status, data = node.request("POST", path, body_of(ask), timeout_s=TIMEOUT_S)
    except (OSError, http.client.HTTPException) as error:
        raise NodeFailed(f"{error!r} for {ask.statements}\n{node.log_tail(5)}") from error
    if status >= 500:
        raise NodeFailed(f"{status} {data[:300]!r} for {ask.statements}")
    if status != 200:
        return data.decode()
    answer = json.loads(data)
    if "error" in answer:
        return str(answer["error"])
    return [result_of(item) for item in answer["results"]]


def result_of(item: dict[str, Any]) -> Result:
    """The result that a `typed` item stands for."""
    if "error" in item:
        return Failure(item["error"], item["code"], item["name"])
    if "columns" not in item:
        return Write(item["last_insert_id"], item["rows_affected"])
    rows = [tuple(map(untagged, row)) for row in item["values"]]
    is_read = "last_insert_id" not in item
    counters = () if is_read else (item["last_insert_id"], item["rows_affected"])
    return Rows(item["columns"], item["decltypes"], rows, is_read, *counters)


def untagged(value: dict[str, Any]) -> Any:
    # An infinite REAL has no form in JSON; the cases have none below zero.
    return float("inf") if value == {"type": "float", "value": None} else untag(value)

"""What a request brought is gone with its answer, and not only when the garbage collector comes:
that counts objects, and a circle of ten may hold twenty megabytes."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest

from rsqlite.request import Request, RequestKind
from rsqlite.testing.engines import EngineCluster, execute

INSERT = "INSERT INTO t(v) VALUES(?)"
REQUESTS = {
    "one": execute(INSERT),
    "three": execute(INSERT, INSERT, INSERT),
    "a transaction": execute(INSERT, INSERT, transaction=True),
    "RETURNING": execute(f"{INSERT} RETURNING length(v)"),
    "at risk": execute("INSERT INTO t(v) SELECT ?"),
    "a trigger": execute("INSERT INTO seen(v) VALUES(?)"),
    "a constraint": execute("INSERT INTO short VALUES(?)"),
    "a constraint at last": execute(INSERT, "INSERT INTO short VALUES(?)", transaction=True),
    "a mistake": execute("INSERT INTO t(v) VALUE(?)"),
    "no such table": execute("INSERT INTO nothing(v) VALUES(?)"),
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineCluster]:
    cluster = EngineCluster(tmp_path_factory.mktemp("alone"), 1)
    cluster.execute(
        cluster.start(),
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v)",
        "CREATE TABLE seen(v)",
        "CREATE TABLE short(v CHECK(length(v) < 100))",
        "CREATE TRIGGER seen AFTER INSERT ON seen BEGIN INSERT INTO t(v) VALUES(new.v); END",
    )
    yield cluster
    cluster.close()


@pytest.mark.parametrize("size", [1_000, 2_000_000])
@pytest.mark.parametrize("what", REQUESTS)
def test_nothing_holds_the_values_of_a_write_that_is_answered(
    alone: EngineCluster, what: str, size: int
) -> None:
    request = REQUESTS[what]
    gc.disable()
    try:
        for _ in range(2):  # the first time its text is not known
            value = "x" * size
            values = [[value] for _ in request.sqls]
            alone.answer(
                alone.leader(),
                Request(RequestKind.EXECUTE, request.sqls, values, transaction=request.transaction),
            )
            alone.loop.advance(1.0)
            del values
            assert sys.getrefcount(value) == 2
    finally:
        gc.enable()

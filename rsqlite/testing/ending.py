"""What must be true of a simulated cluster in the end.

All nodes hold the same, it is what clients were told, and every directory is sound.
"""

from __future__ import annotations

from typing import Any

from rsqlite.node.engine import Engine
from rsqlite.request import Outcome, ReadLevel, Request, RequestKind, Rows
from rsqlite.statemachine.check import check_database
from rsqlite.storage.check import check as check_files
from rsqlite.storage.finding import Severity
from rsqlite.testing.engines import EngineCluster
from rsqlite.testing.workload import Workload, expect


def judge(cluster: EngineCluster, workload: Workload) -> None:
    """Wrong, if nodes that run differ, or hold something else than clients were told."""
    leader = cluster.leader()
    cluster.execute(leader, "UPDATE accounts SET n = n")
    index = leader.machine.applied_index
    engines = cluster.running()
    cluster.until(lambda: all(one.machine.applied_index >= index for one in engines))
    contents = {one.label: _content(cluster, one) for one in engines}
    model = contents[leader.label]
    for label, content in contents.items():
        for table, rows in content.items():
            expect(rows == model.get(table), f"{label} has another {table} than {leader.label}")
        expect(content.keys() == model.keys(), f"{label} has other tables than {leader.label}")
    workload.judge(
        [str(row[1]) for row in model["words"]],
        [n for _, n in sorted(model["counters"])],
        sum(n for _, n in model["accounts"]),
    )


def judge_files(directory: str) -> None:
    """Wrong, if a stopped node has a file that is damaged."""
    for finding in check_files(directory):
        expect(finding.severity is not Severity.DAMAGE, str(finding))
    problems = check_database(f"{directory}/db")
    expect(not problems, f"{directory}: {problems}")


def _content(cluster: EngineCluster, engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables."""
    # Where a table begins in the file is each node's own business after a VACUUM.
    schema = "SELECT name, type, tbl_name, sql FROM sqlite_master ORDER BY name"
    content = {"sqlite_master": cluster.rows(engine, schema, ReadLevel.NONE)}
    for name, kind, *_ in content["sqlite_master"]:
        if kind == "table" and not str(name).startswith("_rsqlite"):
            sql = f'SELECT * FROM "{name}"'
            request = Request(RequestKind.QUERY, [sql], [None], level=ReadLevel.NONE)
            answer = cluster.answer(engine, request)
            assert isinstance(answer, Outcome), answer
            (rows,) = answer.results
            assert isinstance(rows, Rows), f"{engine.label}: {name}: {rows}"
            content[str(name)] = [tuple(row) for row in rows.rows]
    return content

"""What must be true of a simulated cluster in the end.

All nodes hold the same, it is what clients were told, and every directory is sound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rsqlite.node.engine import Engine
from rsqlite.node.findings import Report
from rsqlite.request import Outcome, ReadLevel, Request, RequestKind, Rows
from rsqlite.statemachine.check import check_database
from rsqlite.storage.check import check as check_files
from rsqlite.storage.finding import Severity
from rsqlite.testing import receipts
from rsqlite.testing.engines import EngineCluster
from rsqlite.testing.workload import Workload, expect

if TYPE_CHECKING:
    from rsqlite.testing.simulator import Simulation

VERIFIED_S = 120.0
"""So soon must all nodes hold the same again."""
WRITABLE_S = 3.0
"""So soon must a whole cluster take writes again."""


def read_through(run: Simulation) -> None:
    """What was flipped, and what nobody has read since, is found and made good."""
    for engine in run.cluster.running():
        engine.begin_scrub()
    while any(engine.scrub.status.is_running for engine in run.cluster.running()):
        run.advance(0.1)
    run.until_whole()


def until_verified(run: Simulation) -> None:
    """Checks of the contents must find whoever was tampered with, and repair it."""
    end = run.cluster.loop.monotonic() + VERIFIED_S
    reports: list[Report | None] = []
    while not (reports and reports[-1] and reports[-1].agreed and reports[-1].complete):
        expect(run.cluster.loop.monotonic() < end, f"not repaired: {reports[-1:]}")
        asked = len(reports)
        run.cluster.leader().verify(lambda report, _: reports.append(report), 5.0)
        while len(reports) == asked:
            run.advance(0.1)
        run.advance(2.0)  # whoever differs gives up soon
        run.until_whole()


def judge(cluster: EngineCluster, workload: Workload) -> None:
    """Wrong, if nodes that run differ, or hold something else than clients were told."""
    leader = cluster.leader()
    cluster.until(lambda: _is_written(cluster, leader), WRITABLE_S)
    index = leader.machine.applied_index
    engines = cluster.running()
    cluster.until(lambda: all(one.machine.applied_index >= index for one in engines))
    contents = {one.label: _content(cluster, one) for one in engines}
    model = contents[leader.label]
    for label, content in contents.items():
        for table, rows in content.items():
            expect(rows == model.get(table), f"{label} has another {table} than {leader.label}")
        expect(content.keys() == model.keys(), f"{label} has other tables than {leader.label}")
    problem = receipts.problem(model, has_keys=cluster.settings.fk)
    expect(not problem, problem)
    workload.judge(
        [str(row[1]) for row in model["words"]],
        [n for _, n in sorted(model["counters"])],
        sum(n for _, n in model["accounts"]),
    )


def _is_written(cluster: EngineCluster, leader: Engine) -> bool:
    """A volume that was full has room again, but that is looked at only now and then."""
    request = Request(RequestKind.EXECUTE, ["UPDATE accounts SET n = n"], [None])
    return isinstance(cluster.answer(leader, request), Outcome)


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

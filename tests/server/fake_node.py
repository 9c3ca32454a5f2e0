"""A node for tests of the HTTP floor: SQL is real (APSW in memory), the cluster is not.

It answers at once, or when the test says so (`hold`), or with an error that the test sets. It keeps
what it was asked, so that a test can compare requests.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import apsw
import apsw.ext

from rsqlite.errors import RsqliteError
from rsqlite.node.changes import Wish
from rsqlite.node.compaction import Snapshotted
from rsqlite.node.findings import Report, Verified
from rsqlite.node.membership import Granted
from rsqlite.node.scrub import ScrubStatus
from rsqlite.node.status import MemberStatus, Status
from rsqlite.node.vacuum import Progress, Step
from rsqlite.node.vacuums import Vacuumed, VacuumReport
from rsqlite.raft.types import Member, NodeId
from rsqlite.request import (
    Done,
    Failure,
    Outcome,
    Request,
    RequestKind,
    Result,
    Rows,
    Write,
)

QUERY_WRITES = "attempt to change database via query operation"


class FakeNode:
    """One leader (or, with `leads=False`, a follower that forwards) over a database in memory."""

    def __init__(self, *, leads: bool = True) -> None:
        self.connection = apsw.Connection(":memory:")
        self.requests: list[Request] = []
        self.wishes: list[Wish] = []
        self.has_news = True
        self.report: Report | None = None
        self.vacuum_report: VacuumReport | None = None
        self.scrub = ScrubStatus(False, "", 0, 0.0, (), 0)
        self.repairs: tuple[str, ...] = ()
        self.index = 0
        self.is_leader = leads
        self.is_holding = False
        self.held: deque[tuple[Request, Done]] = deque()
        self.error: RsqliteError | None = None
        self.outcome: Outcome | None = None
        self.served_by = "" if leads else "leader.example:4002"
        self.own = Member(NodeId(1), "one", "127.0.0.1:4002", "127.0.0.1:4001")
        self.other = Member(NodeId(2), "two", "leader.example:4002", "leader.example:4001")
        self.leader: Member | None = self.own if leads else self.other
        self.fault: str | None = None
        self.fingerprint = "1-sqlite-old"
        self.upgrade: str | None = None
        self.leader_reachable = True

    def submit(self, request: Request, done: Done) -> None:
        self.requests.append(request)
        if self.is_holding:
            self.held.append((request, done))
        else:
            done(self.answer(request))

    def change_membership(self, wish: Wish, granted: Granted, timeout_s: float = 0.0) -> None:
        self.wishes.append(wish)
        granted(self.error)

    def snapshot(self, done: Snapshotted, timeout_s: float = 0.0) -> None:
        done(self.has_news, self.error)

    def verify(self, done: Verified, timeout_s: float = 0.0) -> None:
        done(self.report, self.error)

    def begin_scrub(self) -> None:
        if self.error is not None:
            raise self.error
        self.scrub = ScrubStatus(True, "database", 4096, 0.5, ("page 7",), 1)

    def vacuum_all(self, done: Vacuumed, timeout_s: float = 0.0) -> None:
        done(self.vacuum_report, self.error)

    def release(self) -> None:
        """Answer what was held, in order, and go on answering at once."""
        self.is_holding = False
        while self.held:
            request, done = self.held.popleft()
            done(self.answer(request))

    def answer(self, request: Request) -> Outcome | RsqliteError:
        if self.error is not None:
            return self.error
        if self.outcome is not None:
            return self.outcome
        results: list[Result] = []
        in_transaction = request.transaction and request.kind is not RequestKind.QUERY
        if in_transaction:
            self.connection.execute("BEGIN")
        for sql, parameters in zip(request.sqls, request.parameters, strict=True):
            if not sql.strip():
                continue
            started = time.perf_counter()
            result = self.run(sql, parameters, request)
            result.time_s = time.perf_counter() - started
            results.append(result)
            if in_transaction and isinstance(result, Failure):
                self.connection.execute("ROLLBACK")
                break
        if in_transaction and self.connection.in_transaction:
            self.connection.execute("COMMIT")
        is_logged = request.kind is RequestKind.EXECUTE or any(
            not getattr(result, "is_read", False) for result in results
        )
        if is_logged:
            self.index += 1
        return Outcome(results, self.index, is_logged, 0.001, self.served_by)

    def run(self, sql: str, parameters: Any, request: Request) -> Result:
        connection = self.connection
        is_read = False
        try:
            info = apsw.ext.query_info(connection, sql)
            is_read = info.is_readonly
            if request.kind is RequestKind.QUERY and not is_read:
                return Failure(QUERY_WRITES, is_read=False)
            cursor = connection.cursor()
            cursor.execute(sql, parameters)
            if info.description:
                rows = cursor.fetchall()
                return Rows(
                    [name for name, _ in info.description],
                    [declared for _, declared in info.description],
                    rows,
                    is_read,
                    connection.last_insert_rowid(),
                    connection.changes(),
                )
            return Write(connection.last_insert_rowid(), connection.changes())
        except apsw.Error as error:
            code = getattr(error, "extendedresult", 1)
            name = apsw.mapping_extended_result_codes.get(code) or apsw.mapping_result_codes[code]
            return Failure(str(error), code, str(name), is_read)
        except (TypeError, ValueError, OverflowError) as error:
            return Failure(str(error), is_read=is_read)

    def status(self) -> Status:
        members = tuple(
            MemberStatus(
                member.node_id,
                member.label,
                member.raft_addr,
                member.http_addr,
                is_voter=member.node_id != 3,
                is_leader=member == self.leader,
                is_self=member == self.own,
                reachable=self.leader_reachable or member != self.leader,
                fingerprint=self.upgrade or self.fingerprint
                if member == self.own
                else "1-sqlite-old",
            )
            for member in (
                self.own,
                self.other,
                Member(NodeId(3), "three", "three.example:4002", "three.example:4001"),
            )
        )
        return Status(
            version="0.1.0",
            label="one",
            node_id=1,
            cluster_id="c",
            incarnation=1,
            role="leader" if self.is_leader else "follower",
            leader=next((member for member in members if member.is_leader), None),
            term=1,
            first_index=1,
            last_index=self.index,
            durable_index=self.index,
            commit_index=self.index,
            applied_index=self.index,
            members=members,
            directory="/var/lib/rsqlite",
            uptime_s=90.0,
            fault=self.fault,
            fingerprint=self.fingerprint,
            cluster_fingerprint="1-sqlite-old",
            upgrade=self.upgrade,
            content_check=self.report,
            vacuum=Progress(token="", step=Step.NONE),
            scrub=self.scrub,
            repairs=self.repairs,
            counters={"writer_batches": 3, "log_syncs": 5},
        )

"""Node: one server of the cluster in this process, on asyncio, real files and sockets; no HTTP.

`submit` (of `Engine`) is the hot door for the HTTP server: a plain callable, no task. `execute`,
`query` and `request` are the same for people who run a node inside their own program.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import random
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from rsqlite.config import Settings
from rsqlite.errors import (
    DamagedPromises,
    RequestError,
    RequestTooLarge,
    RsqliteError,
    SqlError,
    Stopped,
    Unavailable,
)
from rsqlite.node.changes import Remove
from rsqlite.node.engine import Engine
from rsqlite.node.loop import AsyncioLoop
from rsqlite.node.statements import Given, Statements, columns
from rsqlite.raft.types import NodeId
from rsqlite.request import (
    Answer,
    Failure,
    Outcome,
    ReadLevel,
    Request,
    RequestKind,
    Rows,
    Write,
)
from rsqlite.storage.disk import RealDisk
from rsqlite.storage.kernelsync import KernelSync
from rsqlite.transport.alone import NoNetwork
from rsqlite.transport.network import PeerNetwork

log = logging.getLogger(__name__)


class Node(Engine):
    """A node on `directory`. Alone when the settings name no others; `async with` starts and stops
    it. Raises `NodeFault` or `RequestError` at the start, with a text that says what to do."""

    loop: AsyncioLoop

    def __init__(
        self, directory: str | Path, settings: Settings | None = None, **overrides: Any
    ) -> None:
        if settings is None:
            # Inside somebody's program a node listens only where it is told to.
            settings = Settings(http_addr="", raft_addr="")
        self._asked_settings = dataclasses.replace(settings, **overrides)
        problems = self._asked_settings.check()
        if problems:
            raise RequestError("; ".join(problems))
        self._directory = str(Path(directory).absolute())
        self.is_started = False
        self._is_in_use = False
        """From `start` on, until everything is closed again."""
        self._stopping: asyncio.Task[None] | None = None
        self._waiting: asyncio.Future[RsqliteError | None] | None = None
        """Of `start`, for the others to go on without this node."""
        self.told_to_wait: Callable[[str], None] = lambda reason: None
        """Called by `start` with the reason, if it has to wait for the others."""

    async def start(self) -> None:
        """Open everything and join in. Returns when the node runs; use `wait_ready` to wait for a
        leader. A node that was stopped may be started again. One whose log, hard state or identity
        is damaged waits here until the others go on without it, then is another node of theirs; it
        can be cancelled."""
        if self._is_in_use:
            raise RequestError(f"the node on {self._directory} runs already: stop it first")
        self._is_in_use = True
        settings = self._asked_settings
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        """Resolved with the fault when the node had to stop serving."""
        super().__init__(
            self._directory,
            settings,
            loop=AsyncioLoop(threads=settings.read_threads, failed=self.fail),
            disk=RealDisk(self._kernel_sync(settings)),
            random=random.Random(),
            failed=self._report_fault,
        )
        if self._syncs is not None:
            watch = asyncio.get_running_loop().add_reader
            watch(self._syncs.eventfd, self.loop.call, self._syncs.collect)
        self._peers: PeerNetwork | NoNetwork = NoNetwork()
        try:
            await self._open(settings)
            raft_addr = settings.raft_adv_addr
            if settings.raft_addr:
                self._peers = peers = self._peer_network(settings, self.node_id)
                await peers.start()
                raft_addr = raft_addr or peers.address
            http_addr = settings.http_adv_addr or settings.http_addr
            self.run(self._peers, raft_addr=raft_addr, http_addr=http_addr)
        except BaseException:
            await self._close()
            raise
        self.is_started = True

    async def _open(self, settings: Settings) -> None:
        try:
            self.open_files()
        except DamagedPromises as damage:
            self._peers = peers = self._peer_network(settings, NodeId(0))  # it asks, no more
            self._waiting = asyncio.get_running_loop().create_future()
            farewell = self.ask_to_give_up(damage, peers, self._waiting.set_result)
            try:
                self.told_to_wait(f"{damage}; it waits for the others to go on without this node")
                error = await self._waiting
            finally:
                farewell.stop()
                self._waiting = None
            await peers.stop()
            if error is not None:
                raise error from damage
            self.give_up(damage)

    def _kernel_sync(self, settings: Settings) -> KernelSync | None:
        self._syncs = KernelSync.open() if settings.log_sync == "auto" else None
        return self._syncs

    def _report_fault(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_result(error)

    def _peer_network(self, settings: Settings, node_id: NodeId) -> PeerNetwork:
        return PeerNetwork(
            loop=self.loop,
            settings=settings,
            node_id=node_id,
            random=random.Random(),
            identity=self.identity,
            cluster_id=lambda: self.cluster_id,
            accept_cluster=self.accept_cluster,
            asked=self.asked,
            served=self.served,
            receive=self.receive,
            opened=lambda node_id: None,
            closed=self.link_closed,
        )

    async def stop(self) -> None:
        """Hand leadership over, answer everybody, close the files. Safe to call twice; if it is
        cancelled, it goes on in the background. A `start` that waits ends with Stopped."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(Stopped("the node was stopped while it waited"))
        if self.is_started:
            self.is_started = False
            self._stopping = asyncio.ensure_future(self._stop())
        if self._stopping is not None:
            await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        if self.fault is None:
            if self.settings.raft_cluster_remove_shutdown:
                await self._leave()
            await self._hand_over()
        at_rest = asyncio.Event()
        self.halt(at_rest.set)
        await at_rest.wait()
        await self._close()

    async def _leave(self) -> None:
        """Ask to be removed; whatever the answer, the node stops."""
        done = asyncio.get_running_loop().create_future()
        self.change_membership(
            Remove(str(self.node_id)),
            lambda error: None if done.done() else done.set_result(error),
            self.settings.shutdown_timeout,
        )
        error = await done
        if error is not None:
            log.warning("could not leave the cluster: %s", error)

    async def _hand_over(self) -> None:
        """Finish what is under way, then ask the best follower to lead: its election takes a
        round trip instead of a timeout."""
        deadline = self.loop.monotonic() + self.settings.shutdown_timeout
        await self._until(lambda: not (self.writer.holds_slot and self.is_leader), deadline)
        driver = self.driver
        if driver is None or not self.is_leader or len(self.members) < 2:
            return
        deadline = min(deadline, self.loop.monotonic() + self.settings.raft_election_timeout)
        if driver.transfer_leadership(None):
            await self._until(lambda: not self.is_leader, deadline)

    async def _close(self) -> None:
        try:
            await self._peers.stop()
        finally:
            try:
                self.close_files()
            finally:
                if self._syncs is not None:
                    asyncio.get_running_loop().remove_reader(self._syncs.eventfd)
                    self._syncs.close()
                self.loop.close()
                self._is_in_use = False

    def bury(self) -> None:
        """Stop a node without a network after its event loop was closed, in any thread: the files
        are closed as by `stop`, and nobody is told anything on that loop. NodeFault says what went
        wrong; all is closed then as well."""
        self.is_started = False
        self.loop.end()
        if self._syncs is not None:
            self._syncs.take_over()
        try:
            with contextlib.ExitStack() as closing:
                closing.callback(self.loop.close)
                if self._syncs is not None:
                    closing.callback(self._syncs.close)
                for part in self.open_parts:
                    # After one that failed at more than its disk: the lock must not stay.
                    closing.callback(part.close)
                closing.callback(self.close_files)
                self.halt(lambda: None)
        finally:
            self.open_parts.clear()
            self._is_in_use = False

    async def _until(self, holds: Callable[[], bool], deadline: float) -> bool:
        """Wait until `holds()`; False when the deadline came first."""
        changed = asyncio.Event()
        unwatch = self.watch(changed.set)
        try:
            while not holds():
                left = deadline - self.loop.monotonic()
                if left <= 0:
                    return False
                changed.clear()
                # Not `wait_for`: before Python 3.12 that can swallow a cancellation.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await changed.wait()
            return True
        finally:
            unwatch()

    async def __aenter__(self) -> Node:
        await self.start()
        try:
            if self.settings.bootstrap_expect < 2:
                await self.wait_ready()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Return when a leader is known and everything it had committed is applied here. A node
        that comes back far behind may have to wait for an image."""
        deadline = self.loop.monotonic() + timeout_s
        reached = await self._until(lambda: self.is_synced or self.fault is not None, deadline)
        if self.fault is not None:
            raise self.fault
        if not reached:
            raise Unavailable("no leader within the time given")
        # What it knows to be committed is next to nothing after a start.
        left_s = max(deadline - self.loop.monotonic(), self.settings.raft_heartbeat)
        level = ReadLevel.LINEARIZABLE
        await self.request(["SELECT 1"], kind=RequestKind.QUERY, level=level, timeout_s=left_s)

    async def request(
        self,
        statements: Statements,
        *,
        kind: RequestKind = RequestKind.MIXED,
        transaction: bool = False,
        level: ReadLevel = ReadLevel.WEAK,
        min_index: int = 0,
        timeout_s: float = 0.0,
    ) -> Outcome:
        """Run statements in order and give a result for each; a statement's failure is a result.
        With `transaction` they take effect together or not at all. Everything given is copied
        before this waits for anything; RequestError for a value that SQLite cannot hold. To cancel
        this takes nothing back: a write goes on, for `timeout_s` at the longest."""
        sqls, parameters = columns(statements)
        if len(sqls) > self.settings.statements_max:
            raise RequestTooLarge(
                f"{len(sqls)} statements, at most {self.settings.statements_max} are accepted"
            )
        asked = Request(
            kind,
            sqls,
            parameters,
            transaction=transaction,
            level=level,
            min_index=min_index,
            timeout_s=timeout_s,
        )
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.submit(asked, lambda answer: None if future.done() else future.set_result(answer))
        answer = await future
        if isinstance(answer, RsqliteError):
            raise answer
        return answer

    async def execute(self, sql: str, parameters: Given = None) -> Write | Rows:
        """Run one writing statement; `SqlError` if SQLite refuses it."""
        outcome = await self.request([(sql, parameters)], kind=RequestKind.EXECUTE)
        return _only_result(outcome)

    async def query(
        self,
        sql: str,
        parameters: Given = None,
        *,
        level: ReadLevel = ReadLevel.WEAK,
        min_index: int = 0,
    ) -> Rows:
        """Run one reading statement; `SqlError` if SQLite refuses it."""
        outcome = await self.request(
            [(sql, parameters)], kind=RequestKind.QUERY, level=level, min_index=min_index
        )
        result = _only_result(outcome)
        assert isinstance(result, Rows)
        return result


def _only_result(outcome: Outcome) -> Write | Rows:
    if len(outcome.results) != 1:
        raise RequestError("expected one statement")
    result = outcome.results[0]
    if isinstance(result, Failure):
        raise SqlError(result.message, code=result.code, name=result.name)
    return result

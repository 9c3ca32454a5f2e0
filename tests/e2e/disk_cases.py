"""What is done to the disks of a cluster under load, and what must be seen while it is so.

A case is a fault, a volume and whose it is. Each run of one has a fresh cluster, clients that write
down what they are told, and a supervisor that starts a node again when it has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from rsqlite.cli.exits import Exit
from rsqlite.config import MIB
from tests.e2e.clients import Clients
from tests.e2e.disk_rig import (
    DATABASE,
    LOG,
    NODES,
    RESERVE_BYTES,
    Prober,
    Rig,
    Site,
    database_files,
    log_files,
    until,
)
from tests.e2e.history import Outcome
from tests.e2e.injection import Injection
from tests.e2e.volumes import Volume

FOLLOWER, LEADER, ALL = "follower", "leader", "all"

PATIENCE = float(os.environ.get("PATIENCE", "1"))
"""Multiplies the bounds below, on a machine that has other things to do."""
PROGRESS_S = 10.0 * PATIENCE
"""Until the others acknowledge again, or a full leader has handed over. An election takes one
second, and three nodes and the clients share two cores."""
RECOVERY_S = 30.0 * PATIENCE
"""From the last fault's end to a write acknowledged through every node; some start Python."""
SETTLE_S = 2.0 * PATIENCE
"""After which everybody has noticed."""
HOLD_S = 4.0
STALL_S = 4.0
ACKNOWLEDGED_MIN = 10
IMAGE_RATE = 2 * MIB
FILLING_BYTES = 200_000
FILLING_ROWS = 5
EXIT_S = 20.0 * PATIENCE


@dataclass(frozen=True, slots=True)
class Case:
    """`fault` is the name of a method of `Run`; `detail` the system call that fails."""

    fault: str
    volume: str
    who: str
    detail: str = ""

    @property
    def name(self) -> str:
        return "-".join(filter(None, (self.fault, self.detail, self.volume, self.who)))

    @property
    def thin(self) -> str:
        """Whose volumes are to be thin ones."""
        return self.volume if self.fault == "thin" else ""

    @property
    def options(self) -> tuple[str, ...]:
        if self.fault in ("eio", "slow"):
            # strace can make `io_submit` fail, which is not the sync; so the thread has to do it.
            return ("-log-sync", "thread")
        if self.fault in ("installing", "making"):
            # So little log that a new node needs an image, which comes slowly.
            return ("-log-keep-bytes", "64KiB", "-image-bytes-per-second", str(IMAGE_RATE))
        return ()


def all_cases() -> list[Case]:
    """In the order of a run."""
    cases = []
    for volume in (LOG, DATABASE):
        for who in (FOLLOWER, LEADER, ALL):
            cases += [
                Case(fault, volume, who) for fault in ("short", "full", "broken", "thin", "frozen")
            ]
            cases += [Case("eio", volume, who, call) for call in ("pwrite64", "fdatasync")]
            if volume == DATABASE:
                cases.append(Case("eio", volume, who, "pread64"))
            else:
                cases.append(Case("slow", volume, who, "fdatasync"))
    for fault in ("installing", "making", "checkpointing", "quarantining"):
        cases.append(Case(fault, DATABASE, LEADER if fault == "making" else FOLLOWER))
    return cases


@dataclass(slots=True)
class Run:
    """One run of one case."""

    case: Case
    rig: Rig
    clients: Clients
    prober: Prober
    chance: random.Random
    problems: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    async def carry_out(self) -> None:
        """The fault from its begin to its end, and until everything goes on again."""
        fault: Callable[[], Awaitable[None]] = getattr(self, f"_{self.case.fault}")
        await self._progress("at first")
        await fault()
        await self._recovered()

    # What is looked at

    def _now(self) -> float:
        return self.clients.history.now()

    def _leader(self) -> int:
        return self.rig.cluster.leader()

    async def _chosen(self) -> list[int]:
        """The nodes that it happens to."""
        leader = await asyncio.to_thread(self._leader)
        nodes = range(len(self.rig.sites))
        match self.case.who:
            case "leader":
                return [leader]
            case "follower":
                return [self.chance.choice([node for node in nodes if node != leader])]
            case _:
                return list(nodes)

    def _volume(self, node: int) -> Volume:
        return self.rig.sites[node].volumes[self.case.volume]

    def _complain(self, text: str) -> None:
        self.problems.append(f"at {self._now():.1f} s: {text}")

    async def _progress(self, when: str, timeout_s: float = PROGRESS_S) -> None:
        before = len(self.clients.ledger.sure)
        self.facts[f"progress {when} s"] = round(
            await until(
                lambda: len(self.clients.ledger.sure) >= before + ACKNOWLEDGED_MIN,
                timeout_s,
                lambda: f"acknowledged writes {when}: {self._last_errors()}",
            ),
            2,
        )

    async def _recovered(self) -> None:
        """A write is acknowledged through each node, and all are ready."""
        before = dict(self.clients.acknowledged_by_node)
        nodes = range(len(self.rig.sites))

        def all_serve() -> bool:
            now = self.clients.acknowledged_by_node
            return all(now.get(node, 0) > before.get(node, 0) for node in nodes)

        def all_ready() -> bool:
            return all(site.node.is_ready() for site in self.rig.sites)

        took = await until(
            lambda: all_serve() and all_ready(),
            RECOVERY_S,
            lambda: f"all nodes to serve again: {self._last_errors()}\n{self._logs()}",
        )
        self.facts["recovery s"] = round(took, 2)

    def _last_errors(self) -> list[str]:
        records = self.clients.history.records[-400:]
        texts = [str(one.result)[:120] for one in records if one.outcome is not Outcome.OK]
        return sorted(set(texts))[:6]

    def _logs(self) -> str:
        return "\n".join(site.node.log_tail(12) for site in self.rig.sites)

    def _expect_reads(self, node: int, level: str, begin_s: float, end_s: float) -> None:
        looks = self.prober.between(node, level, begin_s, end_s)
        failed = self.prober.failures(node, level, begin_s, end_s)
        if failed or not looks:
            first = (
                f", first from {failed[0].begin_s:.1f} to {failed[0].end_s:.1f} s" if failed else ""
            )
            self._complain(
                f"node {node}: {len(failed)} of {len(looks)} reads at level {level} were not"
                f" served between {begin_s:.1f} and {end_s:.1f} s{first}"
            )

    def _expect_no_exit(self, nodes: list[int]) -> None:
        for node in nodes:
            if codes := self.rig.exits_of(node):
                self._complain(f"node {node} ended with {codes}")

    async def _other_leads(self, old: int) -> None:
        """Leadership is somewhere else, and the old leader knows it or says nothing."""

        def moved() -> bool:
            views = {node: self.rig.view(node) for node in range(len(self.rig.sites))}
            leaders = [n for n, view in views.items() if view and view["state"] == "Leader"]
            return bool(leaders) and old not in leaders

        took = await until(moved, PROGRESS_S, lambda: f"node {old} to lead no more\n{self._logs()}")
        self.facts["leadership moved s"] = round(took, 2)

    def _outcomes(self, begin_s: float, end_s: float) -> dict[str, int]:
        """How the writes that were asked for in this time were answered."""
        counted = {"acknowledged": 0, "refused: disk full": 0, "refused": 0, "unknown": 0}
        for record in self.clients.history.records:
            is_of_interest = begin_s <= record.called_s < end_s and record.returned is not None
            if not is_of_interest or record.kind in ("read", "sum"):
                continue
            text = str(record.result)
            if record.outcome is Outcome.OK:
                counted["acknowledged"] += 1
            elif record.outcome is Outcome.INFO:
                counted["unknown"] += 1
            elif "503" in text and "disk full" in text:
                counted["refused: disk full"] += 1
            else:
                counted["refused"] += 1
        return counted

    # No room

    async def _short(self) -> None:
        """So little room that the reserve is touched."""
        await self._without_room(RESERVE_BYTES // 2)

    async def _full(self) -> None:
        """No byte left, the reserve included."""
        await self._without_room(0)

    async def _without_room(self, leave_bytes: int) -> None:
        nodes = await self._chosen()
        begin = self._now()
        for node in nodes:
            await asyncio.to_thread(self._volume(node).fill, leave_bytes)
        if self.case.who == ALL:
            await asyncio.sleep(SETTLE_S)
        else:
            if self.case.who == LEADER:
                await self._other_leads(nodes[0])
            await self._progress("without room")
            await asyncio.sleep(SETTLE_S)
        settled = self._now()
        await asyncio.sleep(HOLD_S)
        end = self._now()
        outcomes = self._outcomes(settled, end)
        self.facts["writes without room"] = outcomes
        for node in range(len(self.rig.sites)):
            self._expect_reads(node, "none", begin, end)
        if self.case.who == ALL:
            if not outcomes["refused: disk full"]:
                self._complain("no write was refused with 503 and the reason")
            for outcome in ("acknowledged", "unknown"):
                if outcomes[outcome]:
                    self._complain(f"{outcomes[outcome]} writes were {outcome}, without room")
        healthy = [n for n in range(len(self.rig.sites)) if n not in nodes or self.case.who == ALL]
        for node in healthy:
            self._expect_reads(node, "linearizable", settled, end)
        self._expect_no_exit(list(range(len(self.rig.sites))))
        for node in nodes:
            self._volume(node).free()

    # No room at a bad moment

    async def _installing(self) -> None:
        """The volume fills up while a new node fetches its database."""
        await self._make_images_needed()
        (node,) = await self._chosen()
        incoming = self.rig.sites[node].node.directory / "incoming"
        await asyncio.to_thread(self.rig.wipe, node)
        await until(
            lambda: any(one.stat().st_size > IMAGE_RATE for one in incoming.glob("*.part")),
            RECOVERY_S,
            lambda: f"an image to be fetched\n{self._logs()}",
        )
        await self._hold_without_room(node)

    async def _making(self) -> None:
        """The leader has no room for the image that a new node needs."""
        await self._make_images_needed()
        (leader,) = await self._chosen()
        await asyncio.to_thread(self._volume(leader).fill, RESERVE_BYTES // 2)
        node = next(n for n in range(len(self.rig.sites)) if n != leader)
        await asyncio.to_thread(self.rig.wipe, node)
        # Whoever leads now has room, and makes one: nothing needs to be freed for that.
        await until(
            lambda: self.rig.sites[node].node.is_ready(),
            RECOVERY_S,
            lambda: f"the new node to be there\n{self._logs()}",
        )
        self._volume(leader).free()

    async def _checkpointing(self) -> None:
        """The database file cannot grow by what is in the WAL."""
        (node,) = await self._chosen()
        await asyncio.to_thread(self._volume(node).fill)
        await asyncio.sleep(HOLD_S)
        await self._provoke([node])
        await self._progress("without room")
        self._expect_no_exit([node])
        self._volume(node).free()

    async def _quarantining(self) -> None:
        """The node has to set its files aside, and has no room for the word that says so."""
        (node,) = await self._chosen()
        site = self.rig.sites[node]
        self.rig.is_supervised = False
        site.node.kill()
        segment = min((site.node.directory / "log").glob("*.log"))
        content = bytearray(segment.read_bytes())
        content[content.index(b"INSERT INTO")] ^= 1
        segment.write_bytes(content)
        await asyncio.to_thread(self._volume(node).fill)
        self.rig.is_supervised = True
        await asyncio.sleep(HOLD_S)
        await self._progress("without room")
        self._volume(node).free()

    async def _make_images_needed(self) -> None:
        """The database is some MB long, and what made it so has left the log of every node."""

        def write() -> bool:
            leader = self.rig.sites[self._leader()].node
            row = ["INSERT INTO filling(v) VALUES(?)", "f" * FILLING_BYTES]
            with contextlib.suppress(OSError, http.client.HTTPException):
                leader.request("POST", "/db/execute", [row] * FILLING_ROWS)
            for site in self.rig.sites:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    site.node.request("POST", "/snapshot", timeout_s=EXIT_S)
            views = [self.rig.first_index(site.node.index) for site in self.rig.sites]
            return min(views) > 1

        await until(write, RECOVERY_S, lambda: f"the log to be cut\n{self._logs()}")

    async def _hold_without_room(self, node: int) -> None:
        await asyncio.to_thread(self._volume(node).fill)
        await asyncio.sleep(HOLD_S)
        await self._progress("without room")
        self._volume(node).free()

    # Disks that fail

    async def _eio(self) -> None:
        """A system call fails, once in each thread, at a random one of the next calls."""
        nodes = await self._chosen()
        needed = len(nodes)
        if self.case.who == ALL and self.case.volume == LOG:
            needed -= 1  # the last one has nobody left to write for
        self.rig.is_supervised = False
        injections = []
        begin = self._now()
        for node in nodes:
            site = self.rig.sites[node]
            files = log_files(site) if self.case.volume == LOG else database_files(site)
            action = f"error=EIO:when={self.chance.randint(1, 4)}"
            trace = self.rig.directory / f"trace-{node}"
            injection = Injection(site.node, trace, [self.case.detail], action, files)
            await asyncio.to_thread(injection.attach)
            injections.append(injection)
        await self._provoke(nodes)
        await self._ended(nodes, needed)
        for injection in injections:
            await asyncio.to_thread(injection.detach)
        await self._others_go_on(nodes, begin)
        if sum(bool(injection.injected()) for injection in injections) < needed:
            self._complain("too little was injected")
        for injection in injections:
            for line in injection.syncs_after_failure():
                self._complain(f"a file was synced after it had failed: {line}")
        self.rig.is_supervised = True

    async def _provoke(self, nodes: list[int]) -> None:
        """Make the nodes use their database's file, which they do only now and then."""
        if self.case.volume != DATABASE:
            return

        def ask(site: Site) -> None:
            with contextlib.suppress(OSError, http.client.HTTPException):  # it has ended
                site.node.request("POST", "/snapshot", timeout_s=EXIT_S)

        await asyncio.gather(*(asyncio.to_thread(ask, self.rig.sites[node]) for node in nodes))

    async def _broken(self) -> None:
        """The device fails every write: a real EIO, told by the next sync."""
        nodes = await self._chosen()
        self.rig.is_supervised = False
        begin = self._now()
        for node in nodes:
            await asyncio.to_thread(self._volume(node).break_device)
        await self._provoke(nodes)
        # Without a majority nobody writes any more: the last one may not have met its disk.
        await self._ended(nodes, min(len(nodes), NODES // 2 + 1))
        await self._others_go_on(nodes, begin)
        for node in nodes:
            await asyncio.to_thread(self._mend, node)
        self.rig.is_supervised = True

    async def _thin(self) -> None:
        """The device under the volume has no room, and fails what needs some, though the volume
        itself has room: ENOSPC from a sync."""
        nodes = await self._chosen()
        begin = self._now()
        for node in nodes:
            under = self.rig.sites[node].under
            assert under is not None
            await asyncio.to_thread(under.fill)
        await self._provoke(nodes)
        await asyncio.sleep(HOLD_S)
        await self._others_go_on(nodes, begin)
        for node in nodes:
            under = self.rig.sites[node].under
            assert under is not None
            under.free()
        self.facts["file systems given up"] = 0
        await until(
            lambda: self._tend(nodes), RECOVERY_S, lambda: f"all to be well\n{self._logs()}"
        )

    def _tend(self, nodes: list[int]) -> bool:
        """Mend what the kernel has given up, which may be a while after; whether all is well."""
        for node in nodes:
            if self._volume(node).is_read_only:
                self.facts["file systems given up"] += 1
                self.rig.is_supervised = False
                self._mend(node)
                self.rig.is_supervised = True
        return all(self.rig.sites[node].node.is_ready() for node in nodes)

    async def _ended(self, nodes: list[int], needed: int) -> None:
        """So many of them have ended, and said why; or have begun again: EIO of a statement's read
        SQLite does not tell from damage, which a start looks into."""

        def has_ended(node: int) -> bool:
            again = "starting again" in self.rig.sites[node].node.log_path.read_text()
            return bool(self.rig.exits_of(node)) or again

        await until(
            lambda: sum(map(has_ended, nodes)) >= needed,
            EXIT_S,
            lambda: f"{needed} of nodes {nodes} to end: {self.rig.exits}\n{self._logs()}",
        )
        for node in nodes:
            if self.rig.exits_of(node) not in ([], [Exit.DISK]):
                self._complain(f"node {node} ended with {self.rig.exits_of(node)}")

    async def _others_go_on(self, nodes: list[int], begin_s: float) -> None:
        """A majority is as well as before."""
        if self.case.who == ALL:
            return
        await self._progress("without the failed node")
        others = [n for n in range(len(self.rig.sites)) if n not in nodes]
        for node in others:
            self._expect_reads(node, "none", begin_s, self._now())
        self._expect_no_exit(others)

    def _mend(self, node: int) -> None:
        """The operator's part: the node is stopped, the device well, the file system checked."""
        site = self.rig.sites[node]
        site.node.kill()
        site.volumes[self.case.volume].heal_device()
        log, database = site.volumes[LOG], site.volumes[DATABASE]
        log.unmount()  # it is mounted in the other one
        if self.case.volume == DATABASE:
            database.mend()
            log.mount()
        else:
            log.mend()

    # Disks that hang

    async def _frozen(self) -> None:
        """Every write to the volume hangs."""
        nodes = await self._chosen()
        for node in nodes:
            await asyncio.to_thread(self._volume(node).freeze)
        await self._stalled(nodes)
        for node in nodes:
            await asyncio.to_thread(self._volume(node).thaw)
        self._expect_no_exit(list(range(len(self.rig.sites))))

    async def _slow(self) -> None:
        """Every sync takes longer than the election timeout."""
        nodes = await self._chosen()
        injections = []
        for node in nodes:
            site = self.rig.sites[node]
            trace = self.rig.directory / f"trace-{node}"
            calls = [self.case.detail]
            injection = Injection(site.node, trace, calls, "delay_enter=1500000", log_files(site))
            await asyncio.to_thread(injection.attach)
            injections.append(injection)
        await self._stalled(nodes)
        for injection in injections:
            await asyncio.to_thread(injection.detach)
            if not injection.injected():
                self._complain("nothing was delayed")
        self._expect_no_exit(list(range(len(self.rig.sites))))

    async def _stalled(self, nodes: list[int]) -> None:
        """Some disks hang now; see that nobody else does."""
        others = [n for n in range(len(self.rig.sites)) if n not in nodes]
        begin = self._now()
        if self.case.who == LEADER:
            await self._serve_without(nodes[0])
        if self.case.who != ALL:
            await self._progress("beside a disk that hangs")
        settled = self._now()
        await asyncio.sleep(STALL_S)
        end = self._now()
        for node in others:
            self._expect_reads(node, "none", begin, end)
            self._expect_reads(node, "linearizable", settled, end)
        self.facts["writes meanwhile"] = self._outcomes(settled, end)

    async def _serve_without(self, old: int) -> None:
        """Another node leads, as the others say."""
        others = [n for n in range(len(self.rig.sites)) if n != old]

        def moved() -> bool:
            views = [self.rig.view(node) for node in others]
            return any(view is not None and view["state"] == "Leader" for view in views)

        took = await until(moved, PROGRESS_S, lambda: f"another leader than {old}\n{self._logs()}")
        self.facts["leadership moved s"] = round(took, 2)
